"""What the command line tells beside its results, and what it keeps others from telling."""

import os
import re
import sys
from _thread import interrupt_main
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from threading import Timer
from typing import Any


def tell(message: object) -> None:
    """Tell something in one line."""
    whole = re.sub(r"\.?\n(?=[A-Z])", ". ", str(message))  # a line that is a sentence of its own
    lines = [line.strip().removeprefix("- ") for line in whole.splitlines()]
    if sys.stderr is not None:  # or the line would be among the results
        print("tlclassify:", "; ".join(lines).replace(":; ", ": "), file=sys.stderr)


@contextmanager
def hushed(options: Namespace) -> Iterator[None]:
    """Drop what compiled libraries say when they start, unless a trace is asked for."""
    if options.traceback or sys.stderr is None or sys.stderr is not sys.__stderr__:
        yield
        return
    kept = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        with os.fdopen(os.dup(kept), "w", buffering=1) as file, redirect_stderr(file):
            yield
    finally:
        os.dup2(kept, 2)


@contextmanager
def insistent() -> Iterator[None]:
    """Interrupt again where Ctrl-C came into a callback, of whose errors Python only tells."""

    def insist(unraisable: Any) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            timer = Timer(0.1, interrupt_main)
            timer.daemon = True
            timer.start()
        else:
            kept(unraisable)

    kept, sys.unraisablehook = sys.unraisablehook, insist
    try:
        yield
    finally:
        sys.unraisablehook = kept
