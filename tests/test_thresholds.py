"""A threshold that is chosen holds on new images as often as it says, or there is none."""

import numpy as np
import pytest
from scipy import stats

from tlclassify.evaluation.diagnosis import choose_threshold
from tlclassify.evaluation.report import build_report


def report_of(surest, correct):
    """Return a report on two classes with these probabilities of the predicted label."""
    surest, correct = np.asarray(surest), np.asarray(correct, dtype=bool)
    probabilities = np.stack([surest, 1 - surest], axis=1)
    return build_report(np.where(correct, 0, 1), probabilities, np.array(["a", "b"]))


def draw_images(rng, n, *, noise, digits=None):
    """Return probabilities, and whether answers are right: as often, but for a share of noise."""
    surest = 1 / (1 + np.exp(-np.abs(rng.normal(2.5, 2, n))))
    if digits is not None:
        surest = surest.round(digits)
    return surest, rng.random(n) < surest * (1 - noise)


@pytest.mark.parametrize(("noise", "digits"), [(0, None), (0.02, None), (0, 1)])
@pytest.mark.parametrize("n", [80, 800])
def test_a_chosen_threshold_keeps_its_word(noise, digits, n):
    """Of 200 test sets at most one in five gives a threshold whose answers are right too seldom."""
    rng = np.random.default_rng(0)
    wanted, confidence = 0.9, 0.8
    new, is_right = draw_images(rng, 100_000, noise=noise, digits=digits)
    order = np.argsort(-new)
    falling, accuracy = new[order], np.cumsum(is_right[order]) / np.arange(1, len(new) + 1)
    n_broken, n_covered, n_found = 0, 0, 0
    for _ in range(200):
        surest, correct = draw_images(rng, n, noise=noise, digits=digits)
        choice = choose_threshold(correct, surest, wanted, confidence)
        if choice.threshold is None:
            continue
        n_answered = np.searchsorted(-falling, -choice.threshold, side="right")
        n_broken += accuracy[n_answered - 1] < wanted
        low, high = choice.share_interval
        n_covered += low <= n_answered / len(new) <= high
        n_found += 1
    assert n_broken / 200 <= 1 - confidence
    assert n_found > (180 if n == 800 else 0)
    assert n_covered / n_found > confidence - 0.1


def test_where_every_threshold_is_too_low_few_are_chosen():
    """And the lowest whose own bound looks right, as one reads off a coverage curve, is often."""
    rng = np.random.default_rng(0)
    n, ranks = 500, np.arange(1, 501)
    n_chosen, n_looks_right = 0, 0
    for _ in range(300):
        surest, correct = -np.sort(-rng.uniform(0.5, 1, n)), rng.random(n) < 0.895
        n_chosen += choose_threshold(correct, surest, 0.9, 0.8).threshold is not None
        bounds = stats.binom.cdf(np.cumsum(~correct), ranks, 0.1)
        n_looks_right += (bounds <= 0.2).any()
    assert n_chosen / 300 <= 0.2
    assert n_looks_right / 300 > 0.3


def test_choice_counts_what_it_answers():
    rng = np.random.default_rng(1)
    surest, correct = draw_images(rng, 2_000, noise=0)
    report = report_of(np.maximum(surest, 0.5), correct)
    choice = report.choose_threshold(accuracy=0.9)
    answered = report.probabilities.max(axis=1) >= choice.threshold
    assert choice.n_answered == answered.sum()
    assert choice.n_correct == (answered & (report.y_true == report.y_pred)).sum()
    assert choice.share == answered.mean()
    assert choice.share_interval[0] < choice.share < choice.share_interval[1]
    assert choice.n_correct / choice.n_answered > 0.9
    assert f"{choice.n_correct:,} of {choice.n_answered:,} right here" in str(choice)


def test_a_threshold_in_float32_answers_the_same_images():
    rng = np.random.default_rng(2)
    surest, correct = draw_images(rng, 2_000, noise=0)
    surest = surest.astype(np.float32)
    choice = choose_threshold(correct, surest, 0.95, 0.95)
    assert (surest >= choice.threshold).sum() == choice.n_answered
    assert (surest >= float(f"{choice.threshold:.9g}")).sum() == choice.n_answered


def test_fifty_nine_right_answers_are_the_fewest_that_show_it():
    enough = report_of(np.linspace(0.6, 0.9, 59), np.ones(59)).choose_threshold()
    assert (enough.threshold, enough.n_answered) == (0, 59)
    assert enough.share_interval == (1, 1)
    short = report_of(np.linspace(0.6, 0.9, 58), np.ones(58)).choose_threshold()
    assert (short.threshold, short.n_answered, short.share_interval) == (None, 0, (0, 0))


def test_ten_images_have_none_and_say_why():
    choice = report_of(np.full(10, 0.99), np.ones(10)).choose_threshold()
    assert choice.threshold is None
    assert str(choice).startswith("no threshold: 10 images show none")
    assert "that takes 59 at least" in str(choice)


def test_a_bad_classifier_has_none_and_says_why():
    choice = report_of(np.linspace(0.6, 0.9, 500), np.arange(500) % 3 > 0).choose_threshold()
    assert choice.threshold is None
    assert "not right often enough" in str(choice)


def test_a_mistake_among_the_surest_does_not_rule_out_all():
    correct = np.ones(2_000)
    correct[-1] = 0
    choice = report_of(np.linspace(0.5, 0.99, 2_000), correct).choose_threshold()
    assert choice.threshold == 0


@pytest.mark.parametrize("name", ["accuracy", "confidence"])
@pytest.mark.parametrize("value", [0, 1, 95, "high"])
def test_bad_parameters(name, value):
    report = report_of([0.9, 0.8], [1, 0])
    with pytest.raises(ValueError, match=rf"{name} must be a number in \(0, 1\); received"):
        report.choose_threshold(**{name: value})


def test_the_sentence_names_a_threshold_only_where_one_is_needed():
    surest = np.linspace(0.5, 0.99, 500)
    text = str(report_of(surest, np.ones(500)).choose_threshold())
    assert text.startswith("all answers are right at least 0.95 of the time")
    text = str(report_of(surest, surest > 0.7).choose_threshold())
    assert text.startswith("answers with a probability of at least 0.6")
