import numpy as np
import pytest

from tlclassify._checks.images import check_images
from tlclassify._checks.parameters import (
    COUNT,
    Interval,
    check_choice,
    check_labels,
    check_parameters,
    check_sample_weight,
    close_match_hint,
)

GOOD = np.zeros((2, 4, 5, 3), np.uint8)


def apart(items):
    """An array of Python objects, as pandas makes it of a column."""
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


@pytest.mark.parametrize(
    "good",
    [
        GOOD,
        GOOD[..., :1],
        GOOD[..., 0],
        GOOD.astype(np.float32),
        np.full((1, 2, 2, 3), 255.0),
        np.ones((1, 2, 2), np.float16),
        GOOD.tolist() and GOOD[..., 0].astype(float).tolist(),
    ],
)
def test_good_images_pass_unchanged(good):
    before = np.array(good)
    assert np.array_equal(check_images(good)[0], before)
    assert np.array_equal(np.array(good), before)


def test_images_are_not_copied(tmp_path):
    assert np.shares_memory(check_images(GOOD)[0], GOOD)
    np.save(tmp_path / "a.npy", GOOD)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert np.shares_memory(check_images(mapped)[0], mapped)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (np.zeros((0, 4, 4, 3), np.uint8), ValueError, "at least one image, .*; received none"),
        ([], ValueError, "at least one image"),
        (np.zeros((4, 4), np.uint8), ValueError, r"received \(4, 4\).*reshape"),
        (GOOD[0], ValueError, r"received \(4, 5, 3\)\. For a single image pass X\[None\]"),
        ((image for image in GOOD), TypeError, r"received a single generator\. .* list\(X\)\.$"),
        (np.zeros((1, 4, 4, 4), np.uint8), ValueError, r"RGBA.*X\[\.\.\., :3\]"),
        (np.zeros((1, 3, 8, 8), np.uint8), ValueError, "channels last"),
        (np.zeros((1, 1, 4, 4, 3), np.uint8), ValueError, r"must have shape \(n, height"),
        (np.zeros((2, 0, 4, 3), np.uint8), ValueError, "at least 1x1"),
        (np.zeros((1, 4, 4, 3), np.int64), TypeError, r"received int64.*astype\('uint8'\)"),
        (np.zeros((1, 4, 4, 3), bool), TypeError, "received bool"),
        (np.full((1, 4, 4, 3), np.nan), ValueError, "finite .*; received values from nan"),
        (np.full((1, 4, 4, 3), np.inf), ValueError, "finite"),
        (np.full((1, 4, 4, 3), -np.inf), ValueError, "finite"),
        (np.full((1, 4, 4, 3), -0.5), ValueError, r"from -0\.5 to -0\.5 in 1 of 1"),
        (np.full((1, 4, 4, 3), 400.0), ValueError, "to 400"),
        ([np.zeros((4, 4, 3)), np.zeros((5, 4, 3))], ValueError, "different shapes"),
        ("image.png", TypeError, r"single str.*\[X\]"),
        ([["a.png"]], TypeError, r"received.*shape \(1, 1\)"),
        (["a.png", 1], TypeError, "list of file paths"),
        (apart([GOOD[0], GOOD[1]]), TypeError, r"one array of the arrays with numpy\.stack\(X\)"),
        (GOOD.astype(np.uint16) + 60000, TypeError, r"white is 65535, pass X / 65535"),
    ],
)
def test_bad_images_get_a_clear_error(bad, error, message):
    with pytest.raises(error, match=message):
        check_images(bad)


def test_the_message_names_the_parameter():
    with pytest.raises(ValueError, match=r"validation_data\[0\] must"):
        check_images([], name="validation_data[0]")


def test_a_bad_value_far_down_is_found():
    X = np.zeros((3000, 2, 2, 3), np.float32)
    X[2999, 1, 1, 2] = np.nan
    with pytest.raises(ValueError, match="1 of 3000 images, rows 2999"):
        check_images(X)


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (["a", "b"], "U"),
        ([b"a", b"b"], "S"),
        (apart(["a", "b"]), "U"),
        (apart([b"a", b"b"]), "S"),
        (apart([1, np.int8(2)]), "i"),
        ([1, 2], "i"),
        ([True, False], "b"),
        ([1.0, 2.0], "f"),
        (np.array([[1], [2]]), "i"),
        (np.array(["a", "b"], getattr(np.dtypes, "StringDType", str)()), "U"),
    ],
)
def test_good_labels_keep_their_values(labels, kind):
    found = check_labels(labels, n_samples=2)
    assert found.dtype.kind == kind
    assert found.tolist() == np.asarray(labels).reshape(-1).tolist()


class NeitherYesNorNo:
    """What pandas has where a string is missing."""

    def __ne__(self, other):
        return self

    __hash__ = None

    def __bool__(self):
        raise TypeError("ambiguous")


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ([1, "a"], TypeError, "mix of int and str"),
        (np.array([1, "a"], dtype=object), TypeError, "mix of int and str"),
        ([True, "a"], TypeError, "mix of bool and str"),
        ([None, "a"], ValueError, r"missing labels; received 1 of them, rows 0\."),
        (["a", float("nan")], ValueError, r"rows 1\."),
        (apart(["a", NeitherYesNorNo()]), ValueError, r"rows 1\."),
        ([["a"], ["b", "c"]], ValueError, "rows of different lengths"),
        ([0.5, 1.0], ValueError, "fractional or infinite"),
        ([np.nan, 1.0], ValueError, r"missing labels; received 1 of them, rows 0\."),
        ([np.inf, 1.0], ValueError, "fractional or infinite"),
        ([int, str], TypeError, "dtype object, the first a type. Convert them"),
        ({"a", "b"}, ValueError, r"received a set of shape \(\)\.$"),
        ([1, 2, 3], ValueError, "3 labels for 2 images"),
        ([[0, 1], [1, 0]], ValueError, r"argmax\(axis=1\)"),
        (5, ValueError, r"shape \(n_samples,\)"),
        ([1j, 2j], TypeError, "received dtype complex"),
    ],
)
def test_bad_labels_get_a_clear_error(bad, error, message):
    with pytest.raises(error, match=message):
        check_labels(bad, n_samples=2)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([1, 2, 3], r"2 finite numbers, one per image, .*; received shape \(3,\)"),
        ([1, np.nan], "from nan"),
        ([1, None], "from nan"),
        (["much", 1], "must be 2 finite numbers, .*; could not convert string"),
        ([1, -1], "from -1 to 1"),
        ([0, 0], "not all zero; received values from 0 to 0"),
    ],
)
def test_bad_sample_weights(bad, message):
    with pytest.raises(ValueError, match=message):
        check_sample_weight(bad, n_samples=2)


def test_a_choice_names_the_nearest():
    assert check_choice("pooling", "avg", ("avg", "max")) == "avg"
    with pytest.raises(ValueError, match="pooling must be one of 'avg', 'max'.*mean 'max'"):
        check_choice("pooling", "maxx", ("avg", "max"))
    assert close_match_hint("zzz", ["avg"]) == ""


def test_numbers_are_held_to_their_range():
    assert 3 in COUNT
    assert np.float32(0.5) in Interval(0, 1, closed="neither")
    for bad in (0, 2.0, "3", None, True, np.True_):
        with pytest.raises(ValueError, match=r"a must be an integer in \[1, inf\]; received"):
            check_parameters(("a", bad, COUNT))
    assert None in Interval(1, optional=True)
    for closed, ends in {"both": (0, 1), "left": (0,), "right": (1,), "neither": ()}.items():
        assert [end for end in (0, 1) if end in Interval(0, 1, closed=closed)] == list(ends)
    assert str(Interval(0, 1, closed="left")) == "a number in [0, 1)"
    assert str(Interval(0, optional=True)) == "a number in [0, inf] or None"
    assert np.nan not in Interval(0)  # noqa: PLW0177


def test_problems_are_reported_together():
    check_parameters(("a", 1, COUNT), ("b", "x", ("x", "y")), problems=[None])
    with pytest.raises(ValueError, match=r"^one\.$"):
        check_parameters(problems=[None, "one"])
    message = r"2 parameters are not valid:\n  - b must .*'xx'\. Did you mean 'x'\?\n  - one\.$"
    with pytest.raises(ValueError, match=message):
        check_parameters(("a", 1, COUNT), ("b", "xx", ("x", "y")), problems=["one"])
