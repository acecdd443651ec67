import numpy as np
import pytest

from tlclassify._checks.images import check_images
from tlclassify._checks.labels import check_labels
from tlclassify._checks.parameters import (
    check_choice,
    close_match_hint,
    number_problem,
    raise_problems,
)

GOOD = np.zeros((2, 4, 5, 3), np.uint8)


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
    assert np.array_equal(check_images(good), before)
    assert np.array_equal(np.array(good), before)


def test_images_are_not_copied():
    assert np.shares_memory(check_images(GOOD), GOOD)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (np.zeros((0, 4, 4, 3), np.uint8), ValueError, "at least one image; received none"),
        ([], ValueError, "at least one image"),
        (np.zeros((4, 4), np.uint8), ValueError, r"received \(4, 4\).*reshape"),
        (np.zeros((1, 4, 4, 4), np.uint8), ValueError, r"RGBA.*X\[\.\.\., :3\]"),
        (np.zeros((1, 3, 8, 8), np.uint8), ValueError, "channels last"),
        (np.zeros((1, 1, 4, 4, 3), np.uint8), ValueError, r"must have shape \(n, height"),
        (np.zeros((2, 0, 4, 3), np.uint8), ValueError, "at least 1x1"),
        (np.zeros((1, 4, 4, 3), np.int64), TypeError, r"received int64.*astype\('uint8'\)"),
        (np.zeros((1, 4, 4, 3), bool), TypeError, "received bool"),
        (np.full((1, 4, 4, 3), np.nan), ValueError, "finite; received NaN"),
        (np.full((1, 4, 4, 3), np.inf), ValueError, "finite"),
        (np.full((1, 4, 4, 3), -np.inf), ValueError, "finite"),
        (np.full((1, 4, 4, 3), -0.5), ValueError, r"from -0\.5 to"),
        (np.full((1, 4, 4, 3), 256.0), ValueError, "to 256"),
        ([np.zeros((4, 4, 3)), np.zeros((5, 4, 3))], ValueError, "different shapes"),
        ("image.png", ValueError, r"single str.*\[X\]"),
        ([["a.png"]], TypeError, r"received.*shape \(1, 1\)"),
        ([None, "a.png"], TypeError, "list of file paths"),
    ],
)
def test_bad_images_get_a_clear_error(bad, error, message):
    with pytest.raises(error, match=message):
        check_images(bad)


def test_the_message_names_the_parameter():
    with pytest.raises(ValueError, match=r"validation_data\[0\] must"):
        check_images([], name="validation_data[0]")


def test_a_bad_value_far_down_is_found():
    images = np.zeros((3000, 2, 2, 3), np.float32)
    images[2999, 1, 1, 2] = np.nan
    with pytest.raises(ValueError, match="images 2048 to 2999"):
        check_images(images)


@pytest.mark.parametrize(
    "labels", [["a", "b"], [1, 2], [True, False], [1.0, 2.0], np.array([[1], [2]])]
)
def test_good_labels_keep_their_values(labels):
    assert np.array_equal(check_labels(labels, n_samples=2), np.asarray(labels).reshape(-1))


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ([1, "a"], TypeError, "mix of int and str"),
        (np.array([1, "a"], dtype=object), TypeError, "mix of int and str"),
        ([True, "a"], TypeError, "mix of bool and str"),
        ([None, "a"], ValueError, "missing labels; received 1 of them, the first at row 0"),
        (["a", float("nan")], ValueError, "first at row 1"),
        ([0.5, 1.0], ValueError, "fractional"),
        ([np.nan, 1.0], ValueError, "fractional or missing"),
        ([1, 2, 3], ValueError, "3 labels for 2 images"),
        ([[0, 1], [1, 0]], ValueError, r"argmax\(axis=1\)"),
        (5, ValueError, r"shape \(n_samples,\)"),
        ([1j, 2j], TypeError, "received dtype complex"),
    ],
)
def test_bad_labels_get_a_clear_error(bad, error, message):
    with pytest.raises(error, match=message):
        check_labels(bad, n_samples=2)


def test_a_choice_names_the_nearest():
    assert check_choice("pooling", "avg", ("avg", "max")) == "avg"
    with pytest.raises(ValueError, match="pooling must be one of 'avg', 'max'.*mean 'max'"):
        check_choice("pooling", "maxx", ("avg", "max"))
    assert close_match_hint("zzz", ["avg"]) == ""


def test_numbers_are_held_to_their_range():
    assert number_problem("a", 3, integer=True, low=1) is None
    assert number_problem("a", np.float32(0.5), low=0, high=1) is None
    for bad in (0, 2.0, "3", None, True):
        assert "received" in number_problem("a", bad, integer=True, low=1)
    assert "[0, 1)" in number_problem("a", 1, low=0, high=1, high_included=False)
    assert number_problem("a", float("nan"), low=0) is not None


def test_problems_are_reported_together():
    raise_problems([None, None])
    with pytest.raises(ValueError, match=r"^one\.$"):
        raise_problems([None, "one"])
    with pytest.raises(ValueError, match=r"2 parameters are not valid:\n  - one\.\n  - two\."):
        raise_problems(["one", "two"])
