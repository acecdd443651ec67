"""Will more labels help? Accuracy against images a class, and what more of them would give."""

import json

import numpy as np
import pytest
from scipy import stats
from sklearn.base import clone

from pictures import texts_outside
from tlclassify import LearningCurve, Stage, TransferClassifier, learning_curve
from tlclassify.displays import ImageCountDisplay

SIZES = np.array([1, 2, 5, 10, 20, 50])


@pytest.fixture
def clf(tiny):
    """A classifier with nothing set but its network."""
    return TransferClassifier(tiny, weights=None, random_state=0, verbose=0)


@pytest.fixture
def noisy():
    """90 images of 8x8 in three classes that are hard to tell apart, and 300 to judge by."""
    rng = np.random.default_rng(0)
    y = np.array(["cat", "dog", "eel"])[np.arange(390) % 3]
    X = rng.integers(0, 100, (390, 8, 8, 3)) + rng.integers(0, 120, (390, 1, 1, 3))
    X[y == "dog", :, :, 0] += 30
    X[y == "eel", :, :, 2] += 30
    return X[:90].astype(np.uint8), y[:90], X[90:].astype(np.uint8), y[90:]


def made_curve(sizes=SIZES, n_draws=5, spread=0.01, n_test=2_000, level=0.95, seed=0):
    """Return a curve whose errors follow 0.1 + 0.6 / sqrt(n), but for what draws differ by."""
    errors = 0.1 + 0.6 * np.asarray(sizes)[:, None] ** -0.5
    noise = np.random.default_rng(seed).normal(0, spread, (len(sizes), n_draws))
    accuracies = 1 - errors + noise
    return LearningCurve(
        np.array(sizes), accuracies, n_test=n_test, n_classes=3, confidence_level=level
    )


def test_accuracy_grows_with_the_images(clf, noisy):
    X, y, X_test, y_test = noisy
    clf.set_params(random_state=1)  # of whose weights every backend makes enough
    before = str(clf.get_params())
    curve = learning_curve(clf, X, y, X_test=X_test, y_test=y_test, random_state=0, verbose=0)
    assert curve.train_sizes.tolist() == [1, 2, 5, 10, 20, 30]
    assert curve.accuracies.shape == (6, 5)
    assert (curve.n_test, curve.n_classes) == (300, 3)
    assert curve.mean_accuracies[-1] > curve.mean_accuracies[0] + 0.1
    assert str(clf.get_params()) == before
    assert not hasattr(clf, "model_")


@pytest.mark.parametrize("params", [{}, {"class_weight": "balanced"}, {"augmentation": "flip"}])
def test_its_accuracies_are_those_of_fits(clf, noisy, params):
    """With all images of every class there is one draw, and the fit is the classifier's own."""
    X, y, X_test, y_test = noisy
    clf.set_params(**params)
    curve = learning_curve(
        clf, X, y, X_test=X_test, y_test=y_test, train_sizes=[30], n_draws=2, verbose=0
    )
    score = clone(clf).fit(X, y).score(X_test, y_test)
    np.testing.assert_allclose(curve.accuracies, score, atol=0.007)


@pytest.mark.parametrize(
    "params",
    [
        {"head": "mlp", "head_stage": Stage(2)},
        {"fine_tune_stage": Stage(1, unfreeze=1)},
        {"validation_fraction": 0.2},
    ],
)
def test_what_is_not_solved_alone_is_fitted_anew(clf, noisy, params):
    X, y, X_test, y_test = noisy
    clf.set_params(**params)
    test = {"X_test": X_test, "y_test": y_test}
    curve = learning_curve(
        clf, X, y, **test, train_sizes=[30], n_draws=1, random_state=0, verbose=0
    )
    score = clone(clf).fit(X, y).score(X_test, y_test)
    assert curve.accuracies[0, 0] == pytest.approx(score, abs=0.05)


def test_no_image_is_run_twice(clf, images, runs):
    learning_curve(clf, *images, n_draws=2, random_state=0, verbose=0)
    assert sum(runs) == 24


def test_stored_activations_are_read(clf, images, runs, tmp_path):
    clf.set_params(cache_dir=tmp_path).fit(*images)
    learning_curve(clf, *images, n_draws=2, random_state=0, verbose=0)
    assert sum(runs) == 24


def test_it_is_the_same_for_the_same_seed(clf, noisy):
    first, second, other = (
        learning_curve(clf, *noisy[:2], n_draws=2, random_state=seed, verbose=0).accuracies
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def test_each_draw_holds_out_its_own_images(clf, noisy):
    curve = learning_curve(clf, *noisy[:2], n_draws=4, random_state=0, verbose=0)
    assert curve.train_sizes.tolist() == [1, 2, 5, 10, 24]
    assert 18 < curve.n_test <= 72


def test_files_are_drawn_from(clf, files):
    curve = learning_curve(clf, *files, train_sizes=[2, 6], n_draws=2, random_state=0, verbose=0)
    assert curve.mean_accuracies[-1] > 0.7


def test_one_image_a_class_needs_others_to_be_judged_by(clf, images):
    X, y = images
    with pytest.raises(ValueError, match="two images of each class .*pass X_test and y_test"):
        learning_curve(clf, X[:3], y[:3], verbose=0)
    curve = learning_curve(clf, X[:3], y[:3], X_test=X[3:], y_test=y[3:], verbose=0)
    assert curve.train_sizes.tolist() == [1]
    with pytest.raises(ValueError, match="integers from 1 to 1, .* 'cat', has; received 2"):
        learning_curve(clf, X[:3], y[:3], X_test=X[3:], y_test=y[3:], train_sizes=[2], verbose=0)
    assert "no forecast: a law is fitted to at least 4 sizes and 2 draws; there are 1" in str(curve)


@pytest.mark.parametrize("sizes", [[1, 9], [0], [2.5], [], "12", 40])
def test_sizes_that_are_not_there_name_the_largest(clf, images, sizes):
    X, y = images
    rows = np.r_[np.arange(24), np.flatnonzero(y != "eel")]
    with pytest.raises(ValueError, match="integers from 1 to 6, which .* class, 'eel', has beside"):
        learning_curve(clf, X[rows], y[rows], train_sizes=sizes, random_state=0, verbose=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"X_test": np.zeros((2, 8, 8, 3), np.uint8)}, "X_test and y_test must come together"),
        ({"y_test": ["cat"]}, "X_test and y_test must come together"),
        (
            {"X_test": np.zeros((1, 8, 8, 3), np.uint8), "y_test": ["owl"]},
            "y_test must hold labels .*'owl'",
        ),
        ({"n_draws": 0, "test_fraction": 1}, "2 parameters are not valid"),
    ],
)
def test_bad_parameters(clf, images, options, message):
    with pytest.raises(ValueError, match=message):
        learning_curve(clf, *images, verbose=0, **options)


def test_only_a_transfer_classifier_has_one(images):
    with pytest.raises(TypeError, match="clf must be a TransferClassifier; pass the last step"):
        learning_curve("mobilenet", *images)


@pytest.mark.parametrize("seed", range(8))
def test_a_forecast_holds_where_the_law_does(seed):
    curve = made_curve(seed=seed, n_test=10**9)
    for n_images in (100, 200):
        forecast = curve.forecast(n_images)
        true = 0.9 - 0.6 / np.sqrt(n_images)
        assert forecast.accuracy == pytest.approx(true, abs=0.03)
        assert forecast.interval[0] <= true <= forecast.interval[1]
    assert [each.n_images for each in curve.forecasts] == [100, 200]


@pytest.mark.slow
def test_a_forecast_holds_on_images(clf, noisy):
    """Fitted on up to 10 images a class, it is held against fits on 20 and 40."""
    X, y, X_test, y_test = noisy
    X, y = np.concatenate([X, X_test[:150]]), np.concatenate([y, y_test[:150]])
    test = {"X_test": X_test[150:], "y_test": y_test[150:], "verbose": 0}
    curve = learning_curve(clf, X, y, train_sizes=[1, 2, 5, 10], n_draws=8, random_state=0, **test)
    larger = learning_curve(clf, X, y, train_sizes=[20, 40], n_draws=8, random_state=1, **test)
    for forecast, true in zip(curve.forecasts, larger.mean_accuracies, strict=True):
        assert forecast.accuracy == pytest.approx(true, abs=0.08)
        assert forecast.interval[0] <= true <= forecast.interval[1]


def test_the_law_is_found_again():
    assert made_curve(spread=0).law == pytest.approx((0.1, 0.6, 0.5), abs=0.01)


def test_a_law_is_no_more_than_errors_can_be():
    falling = np.repeat(0.5 - 0.01 * np.arange(6), 3).reshape(6, 3)
    curve = LearningCurve(SIZES, falling, 100, n_classes=2, confidence_level=0.9)
    assert curve.law.scale == 0
    steep = np.repeat(1 - 0.8 / SIZES**2.0, 2).reshape(6, 2)
    curve = LearningCurve(SIZES, steep, 100, n_classes=2, confidence_level=0.9)
    assert curve.law == pytest.approx((0, 0.8, 1.5), abs=0.05)
    assert curve.law.floor == 0
    perfect = LearningCurve(SIZES, np.ones((6, 3)), 50, n_classes=2, confidence_level=0.95)
    for forecast in perfect.forecasts:
        assert forecast.accuracy == 1
        # Fifty images that are all right do not say that the next one is.
        assert forecast.interval == pytest.approx((0.929, 1), abs=0.001)


def test_intervals_are_wider_where_less_is_known():
    def width(curve):
        low, high = curve.forecast(100).interval
        return high - low

    many = {"n_test": 10**9}
    usual = width(made_curve(**many))
    assert width(made_curve(spread=0.03, **many)) > 2 * usual
    assert width(made_curve(n_draws=2, **many)) > 2 * usual
    assert width(made_curve(level=0.5, **many)) < usual / 2
    assert width(made_curve(n_test=50)) > 2 * usual


def test_intervals_at_one_draw_are_wilsons():
    curve = LearningCurve(
        np.array([5]), np.array([[0.8]]), n_test=50, n_classes=2, confidence_level=0.95
    )
    wilson = stats.binomtest(40, 50).proportion_ci(method="wilson")
    np.testing.assert_allclose(curve.accuracy_intervals, [[wilson.low, wilson.high]])


def test_intervals_over_draws_are_students_where_many_images_judge():
    curve = made_curve([1, 100, 10_000], n_test=10**12)
    expected = stats.t.interval(
        0.95, 4, loc=curve.mean_accuracies, scale=stats.sem(curve.accuracies, axis=1)
    )
    np.testing.assert_allclose(curve.accuracy_intervals.T, expected, atol=1e-5)


def test_draws_of_all_images_are_not_taken_for_certain():
    usual = made_curve(n_test=10**9)
    accuracies = np.where(SIZES[:, None] == 50, usual.mean_accuracies[:, None], usual.accuracies)
    equal = LearningCurve(SIZES, accuracies, 10**9, n_classes=3, confidence_level=0.95)
    before, last = np.diff(equal.accuracy_intervals, axis=1)[-2:, 0]
    assert last == pytest.approx(before * np.sqrt(20 / 50), rel=1e-4)


@pytest.mark.parametrize(("sizes", "n_draws"), [([1, 2, 5], 5), (SIZES, 1)])
def test_too_little_for_a_forecast_is_said(sizes, n_draws):
    curve = made_curve(sizes, n_draws)
    assert curve.law is None
    assert curve.forecasts == ()
    assert "no forecast: a law is fitted to at least 4 sizes and 2 draws" in str(curve)
    with pytest.raises(ValueError, match="there are .* Call learning_curve with more"):
        curve.forecast(100)
    assert curve.to_dict()["law"] is None


def test_a_forecast_is_of_a_number_of_images():
    with pytest.raises(ValueError, match="n_images must be an integer"):
        made_curve().forecast(0)


def test_the_text_says_what_more_would_give():
    curve = made_curve()
    lines = str(curve).splitlines()
    assert lines[0] == "3 classes, judged by 2,000 images; means of 5 draws, intervals at 95%"
    assert [line.split()[0] for line in lines[2:8]] == ["1", "2", "5", "10", "20", "50"]
    forecast = curve.forecasts[0]
    low, high = forecast.interval
    assert (
        f"twice as many labels (100 a class) would give about {forecast.accuracy:.2f} "
        f"[{low:.2f}, {high:.2f}]"
    ) in lines
    assert "four times as many (200 a class) would give about" in lines[-1]
    assert repr(curve) == "LearningCurve(6 sizes, 5 draws)"
    assert "judged by 2,000 images; one draw" in str(made_curve(n_draws=1))


def test_a_curve_as_json():
    curve = made_curve()
    found = json.loads(json.dumps(curve.to_dict(), allow_nan=False))
    assert found["train_sizes"] == SIZES.tolist()
    assert found["accuracies"] == curve.accuracies.tolist()
    assert found["law"]["exponent"] == curve.law.exponent
    assert [each["n_images"] for each in found["forecasts"]] == [100, 200]


@pytest.mark.usefixtures("figures")
@pytest.mark.parametrize("sizes", [SIZES, [5], [100, 110, 1_000, 1_390]])
def test_a_picture(sizes):
    display = ImageCountDisplay.from_curve(made_curve(sizes)).plot()
    assert not texts_outside(display.figure_)
    names = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert names == (["measured", "forecast"] if len(sizes) > 3 else ["measured"])
