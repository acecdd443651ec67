"""Laws of the image sets that need no download."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tlclassify.datasets import load_digits_rgb, make_shapes

NAMES = ["circle", "square", "triangle", "cross", "ring", "diamond"]


def test_digits_are_the_digits_of_scikit_learn():
    digits = load_digits()
    small = load_digits_rgb(image_size=8)
    assert np.array_equal(small.X[..., 0], np.round(digits.images * 255 / 16))
    assert small.y.tolist() == [str(digit) for digit in digits.target]
    assert small.class_names == tuple("0123456789")
    assert repr(small) == "ImageDataset(1797 images of 8x8x3, 10 classes)"


def test_digits_are_enlarged_with_three_equal_channels():
    X = load_digits_rgb().X
    assert X.shape == (1797, 32, 32, 3)
    assert X.dtype == np.uint8
    assert X.flags.c_contiguous
    assert np.array_equal(X, X[..., :1].repeat(3, axis=3))
    assert X.max() == 255
    means = X[..., 0].mean(axis=(1, 2)) - load_digits_rgb(image_size=8).X[..., 0].mean(axis=(1, 2))
    assert np.abs(means).max() < 6


@pytest.mark.parametrize("image_size", [0, -1, 8.5, "8"])
def test_a_digit_has_a_whole_positive_size(image_size):
    with pytest.raises(ValueError, match="image_size must be an integer"):
        load_digits_rgb(image_size=image_size)


def test_shapes_have_the_shape_type_and_balance_asked_for():
    X, y = make_shapes(50, n_classes=6, image_size=20, random_state=0)
    assert X.shape == (50, 20, 20, 3)
    assert X.dtype == np.uint8
    names, counts = np.unique(y, return_counts=True)
    assert set(names) == set(NAMES)
    assert counts.max() - counts.min() == 1
    assert y.dtype.kind == "U"


def test_one_seed_draws_one_set_and_another_another():
    first, again, other = (make_shapes(10, random_state=seed) for seed in (3, 3, 4))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])
    state = np.random.RandomState(3)
    assert np.array_equal(make_shapes(10, random_state=state)[0], first[0])
    assert not np.array_equal(make_shapes(10, random_state=state)[0], first[0])


def test_without_noise_an_image_has_two_distant_colours():
    X, y = make_shapes(60, n_classes=6, noise=0, random_state=0)
    for image, name in zip(X, y, strict=True):
        colours = np.unique(image.reshape(-1, 3), axis=0).astype(int)
        assert len(colours) == 2, name
        assert (np.abs(colours[0] - colours[1]) >= 95).all(), name


def test_noise_is_a_standard_deviation_as_a_fraction_of_255():
    clean, _ = make_shapes(3, noise=0, random_state=0)
    rng = np.random.RandomState(0)
    noisy, _ = make_shapes(3, noise=0.02, random_state=rng)
    middle = (clean[0] > 40) & (clean[0] < 215)
    spread = (noisy[0].astype(float) - clean[0])[middle].std()
    assert spread == pytest.approx(0.02 * 255, rel=0.1)


def test_parameters_out_of_range_are_reported_together():
    with pytest.raises(
        ValueError, match=r"4 parameters(?s:.*)n_classes.*\n.*n_samp.*\n.*im.*\n.*no"
    ):
        make_shapes(0, n_classes=7, image_size=4, noise=-1)
    with pytest.raises(ValueError, match=r"n_samples must be an integer in \[6, inf"):
        make_shapes(5, n_classes=6)
