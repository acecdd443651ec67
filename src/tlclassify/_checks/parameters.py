"""Parameters: a clean value, or an error that says what to do."""

import difflib
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

_NAMES_IN_MESSAGE = 10


def close_match_hint(name: object, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the nearest known name, or an empty string."""
    match = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f" Did you mean {match[0]!r}?" if match else ""


def check_choice(name: str, value: object, allowed: Sequence[str]) -> str:
    """Return `value` if it is one of the `allowed` strings."""
    raise_problems([choice_problem(name, value, allowed)])
    return str(value)


def choice_problem(name: str, value: object, allowed: Sequence[str]) -> str | None:
    """Return what is wrong with a choice, or None; problems are gathered and raised together."""
    if isinstance(value, str) and value in allowed:
        return None
    choices = ", ".join(repr(choice) for choice in allowed)
    hint = close_match_hint(value, allowed)
    return f"{name} must be one of {choices}; received {value!r}.{hint}"


def number_problem(
    name: str,
    value: object,
    *,
    integer: bool = False,
    low: float = -np.inf,
    high: float = np.inf,
    low_included: bool = True,
    high_included: bool = True,
) -> str | None:
    """Return what is wrong with a number, or None; problems are gathered and raised together."""
    kind = Integral if integer else Real
    if isinstance(value, kind) and not isinstance(value, bool | np.bool_):
        number = float(value)
        above = number >= low if low_included else number > low
        below = number <= high if high_included else number < high
        if above and below:
            return None
    left, right = "[" if low_included else "(", "]" if high_included else ")"
    noun = "an integer" if integer else "a number"
    return f"{name} must be {noun} in {left}{low:g}, {high:g}{right}; received {value!r}"


def raise_problems(problems: Iterable[str | None]) -> None:
    """Raise one ValueError that lists all the problems that are not None."""
    found = [text if text[-1] in ".?" else f"{text}." for text in problems if text is not None]
    if len(found) == 1:
        raise ValueError(found[0])
    if found:
        listed = "".join(f"\n  - {text}" for text in found)
        raise ValueError(f"{len(found)} parameters are not valid:{listed}")


def listed(values: Iterable[Any]) -> str:
    """Return the first values as Python writes them, and how many more there are."""
    texts = [repr(value) for value in values]
    more = len(texts) - _NAMES_IN_MESSAGE
    shown = ", ".join(texts[:_NAMES_IN_MESSAGE])
    return f"{shown} and {more} more" if more > 0 else shown


def check_type(name: str, value: object, kind: type, wanted: str) -> None:
    """Check that a value is of a kind, or raise TypeError."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {wanted}; received {value!r}.")


def run_problems(image_size: Any, batch_size: Any) -> list[str | None]:
    """Return what is wrong with the parameters of running a network."""
    problems = [number_problem("batch_size", batch_size, integer=True, low=1)]
    if image_size is not None:
        problems.append(number_problem("image_size", image_size, integer=True, low=1))
    return problems
