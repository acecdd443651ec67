"""Pages hold what the code has: every error message, and every parameter."""

import importlib.util
import inspect
import json
from pathlib import Path

import pytest

from tlclassify import FeatureExtractor, Stage, TransferClassifier

ROOT = Path(__file__).parents[1]
PATH = ROOT / "tools" / "messages.py"
SPEC = importlib.util.spec_from_file_location("messages", PATH)
tool = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tool)

CODE = '''
"""X must be a docstring; received no message."""
if bad:
    raise ValueError(f"{name} must hold apples; received {value!r}. " + hint)
warnings.warn("pears are left out" if n else f"{n} pears are left out", stacklevel=2)
problem = "plums must be ripe" if green else None
raise KeyError(name)
'''


def test_messages_are_collected_with_an_ellipsis_for_values():
    assert [text for _, text in tool.collect(CODE)] == [
        "… must hold apples; received …. …",
        "pears are left out … pears are left out",
        "plums must be ripe",
    ]


def test_a_message_is_found_by_its_words_in_the_first_column_alone():
    page = "| message | why |\n| --- | --- |\n| `must hold apples`<br>`plums` | `pears` |\n"
    raised = dict.fromkeys(["… must hold apples; received …", "pears are left out"], "a.py:1")
    assert tool.missing(page, raised) == ["pears are left out"]


@pytest.fixture(scope="module")
def raised():
    return tool.messages()


def test_the_page_has_every_message(raised):
    assert len(raised) > 150
    assert tool.missing(tool.PAGE.read_text(encoding="utf-8"), raised) == []


def test_the_page_has_no_words_that_no_message_has(raised):
    words = tool.documented(tool.PAGE.read_text(encoding="utf-8"))
    assert [text for text in words if not any(text in message for message in raised)] == []


@pytest.mark.parametrize(
    ("page", "described"),
    [("classifier", TransferClassifier), ("features", FeatureExtractor), ("training", Stage)],
)
def test_every_parameter_is_in_the_guide(page, described):
    text = (ROOT / "docs" / "guide" / f"{page}.md").read_text(encoding="utf-8")
    names = inspect.signature(described).parameters
    assert [name for name in names if f"`{name}`" not in text] == []


def test_the_page_of_figures_says_what_its_data_say(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    figures = importlib.import_module("figures")
    page, data = ((ROOT / "docs" / f"figures.{kind}").read_text("utf-8") for kind in ("md", "json"))
    known = json.loads(data)
    assert figures.fill_page(page, known) == page
    assert set(known) <= {
        name for block in figures.BLOCK.finditer(page) for name in block[2].split()
    }
