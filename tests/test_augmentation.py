"""A view is decided by its image and its number, and does to pixels what its numbers say."""

import keras
import numpy as np
import pytest
from sklearn.base import clone

from tlclassify.inputs.augmentation import (
    Augmentation,
    fixed_views,
    fresh_views,
    get_augmentation,
    no_views,
    open_views,
)
from tlclassify.inputs.images import open_images
from tlclassify.networks.steps import build_view

SIZE = (8, 12)
ALL = Augmentation(
    horizontal_flip=True,
    rotation_degrees=20,
    zoom_fraction=0.3,
    translation_fraction=0.25,
    brightness=0.4,
    contrast=0.5,
)


@pytest.fixture
def digests():
    return np.random.default_rng(0).integers(0, 256, (300, 32), dtype=np.uint8)


@pytest.fixture
def pixels():
    return np.random.default_rng(1).integers(0, 256, (5, *SIZE, 3)).astype(np.float32)


def fixed(augmentation, digests, view=1, size=SIZE):
    return fixed_views(augmentation, digests, view, image_size=size)


def fresh(augmentation, rng, n=4, size=SIZE):
    return fresh_views(augmentation, rng, n, image_size=size)


def run(pixels, numbers):
    images, views = keras.Input(pixels.shape[1:]), keras.Input((10,))
    model = keras.Model([images, views], build_view(images, views))
    return np.asarray(model([pixels, np.asarray(numbers, np.float32)]))


class Drawn:
    """A generator that draws one number only: 1 is the upper end of every range."""

    def __init__(self, number):
        self.number = number

    def random(self, shape):
        return np.full(shape, float(self.number))


def run_extreme(pixels, number=1, **parameters):
    numbers = fresh(Augmentation(**parameters), Drawn(number), len(pixels), pixels.shape[1:3])
    return run(pixels, numbers)


def test_presets_are_valid_and_copies():
    for name in ("flip", "article", "strong"):
        preset = get_augmentation(name)
        assert get_augmentation(preset) is preset
        assert preset.horizontal_flip
        preset.horizontal_flip = False
        assert get_augmentation(name).horizontal_flip


def test_clone_keeps_every_parameter():
    augmentation = Augmentation(
        horizontal_flip=True,
        rotation_degrees=1,
        zoom_fraction=0.2,
        translation_fraction=0.3,
        brightness=0.4,
        contrast=0.5,
        n_views=6,
        mixup_alpha=0.7,
        cutmix_factor=0.8,
    )
    defaults = Augmentation().get_params()
    kept = clone(augmentation).get_params()
    assert kept == augmentation.get_params()
    assert all(kept[name] != defaults[name] for name in defaults)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"rotation_degrees": 181},
            r"augmentation__rotation_degrees .* in \[0, 180\]; received 181",
        ),
        ({"rotation_degrees": -1}, r"augmentation__rotation_degrees .* received -1"),
        ({"zoom_fraction": 1}, r"augmentation__zoom_fraction .* in \[0, 1\)"),
        ({"translation_fraction": 1.0}, r"augmentation__translation_fraction .* in \[0, 1\)"),
        ({"brightness": 25}, r"augmentation__brightness .* in \[0, 1\]; received 25"),
        ({"contrast": "a"}, r"augmentation__contrast must be a number in \[0, 1\)"),
        ({"n_views": 0}, r"augmentation__n_views must be an integer in \[1, inf\]"),
        ({"n_views": 2.5}, "augmentation__n_views must be an integer"),
        ({"mixup_alpha": 2}, r"augmentation__mixup_alpha .* in \[0, 1\]"),
        ({"cutmix_factor": None}, r"augmentation__cutmix_factor .* received None"),
        ({"horizontal_flip": 1}, "augmentation__horizontal_flip must be True or False; received 1"),
        ({"horizontal_flip": "no", "brightness": np.nan}, "2 parameters are not valid"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        get_augmentation(Augmentation(**parameters))


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"one of 'flip', .*received 'strng'\. Did .* 'strong'"):
        get_augmentation("strng")


def test_something_else_is_no_augmentation():
    with pytest.raises(TypeError, match="must be an Augmentation, .* or None; received dict"):
        get_augmentation({"horizontal_flip": True})


def test_a_numpy_bool_is_a_bool():
    augmentation = Augmentation(horizontal_flip=np.bool_(True), n_views=np.int64(3))
    assert get_augmentation(augmentation) is augmentation


@pytest.mark.parametrize(
    ("parameters", "n"),
    [
        ({}, 1),
        ({"n_views": 9}, 1),
        ({"mixup_alpha": 0.5, "cutmix_factor": 1}, 1),
        ({"horizontal_flip": True}, 2),
        ({"horizontal_flip": True, "n_views": 1}, 1),
        ({"horizontal_flip": True, "n_views": 9}, 2),
        ({"rotation_degrees": 1}, 4),
        ({"zoom_fraction": 0.1, "n_views": 3}, 3),
        ({"translation_fraction": 0.1, "n_views": 1}, 1),
        ({"brightness": 0.1, "horizontal_flip": True}, 4),
        ({"contrast": 0.1, "n_views": 7}, 7),
    ],
)
def test_no_view_is_stored_twice(parameters, n):
    images = open_images(np.zeros((1, *SIZE, 3), np.uint8))
    assert len(open_views(images, Augmentation(**parameters), SIZE)) == n


def test_a_view_is_decided_by_its_image_and_number_alone(digests):
    numbers = fixed(ALL, digests)
    assert numbers.shape == (300, 10)
    assert numbers.dtype == np.float32
    rows = np.array([5, 299, 0, 5])
    np.testing.assert_array_equal(fixed(ALL, digests[rows]), numbers[rows])
    assert len(np.unique(numbers, axis=0)) == 300
    other = fixed(ALL, digests, view=3)
    assert not (other == numbers).all(axis=1).any()


def test_every_other_view_is_mirrored(digests):
    for view in range(1, 6):
        numbers = fixed(ALL, digests, view)
        # A reflection has a negative determinant.
        determinant = numbers[:, 0] * numbers[:, 4] - numbers[:, 1] * numbers[:, 3]
        assert (np.sign(determinant) == (-1 if view % 2 else 1)).all()


def test_without_flipping_nothing_is_mirrored(digests):
    unmirrored = clone(ALL).set_params(horizontal_flip=False)
    drawn = [fixed(unmirrored, digests, view) for view in (1, 2, 3)]
    drawn.append(fresh(unmirrored, np.random.default_rng(0), 300))
    for numbers in drawn:
        assert (numbers[:, 0] * numbers[:, 4] > numbers[:, 1] * numbers[:, 3]).all()


def test_half_of_the_fresh_views_are_mirrored():
    numbers = fresh(Augmentation(horizontal_flip=True), np.random.default_rng(0), 1000)
    assert set(numbers[:, 0]) == {-1, 1}
    assert 400 < (numbers[:, 0] == -1).sum() < 600


def assert_fills(values, low, high):
    """Within the limits, and over nearly all of what lies between them."""
    margin = 1e-4 * (high - low)
    assert low - margin <= values.min() < low + 0.1 * (high - low)
    assert high - 0.1 * (high - low) < values.max() <= high + margin


@pytest.mark.parametrize("kind", ["fixed 1", "fixed 2", "fresh"])
def test_every_change_fills_its_limits(digests, kind):
    height, width = SIZE
    if kind == "fresh":
        numbers = fresh(ALL, np.random.default_rng(0), 300)
    else:
        numbers = fixed(ALL, digests, int(kind[-1]))
    sine, cosine = -numbers[:, 1], numbers[:, 4]
    assert_fills(1 / np.hypot(sine, cosine), 0.7, 1.3)
    assert_fills(np.rad2deg(np.arctan2(sine, cosine)), -20, 20)
    x, y = (width - 1) / 2, (height - 1) / 2
    moved = numbers[:, [0, 3]] * x + numbers[:, [1, 4]] * y + numbers[:, [2, 5]] - [x, y]
    assert_fills(moved[:, 0], -0.25 * width, 0.25 * width)
    assert_fills(moved[:, 1], -0.25 * height, 0.25 * height)
    assert_fills(numbers[:, 8], -0.4 * 255, 0.4 * 255)
    assert_fills(numbers[:, 9], 0.5, 1.5)
    np.testing.assert_array_equal(numbers[:, 6:8], 0)


@pytest.mark.parametrize("parameter", ["rotation_degrees", "zoom_fraction", "translation_fraction"])
def test_one_geometric_change_alone_leaves_the_colours(digests, parameter):
    numbers = fixed(Augmentation(**{parameter: 0.5}), digests)
    np.testing.assert_array_equal(numbers[:, 6:], no_views(300)[:, 6:])
    assert (numbers[:, :6] != no_views(300)[:, :6]).any(axis=1).all()


def test_with_everything_off_a_view_is_the_image(digests):
    np.testing.assert_array_equal(fixed(Augmentation(), digests), no_views(300))


def test_fresh_views_go_on_with_their_generator():
    first, again = np.random.default_rng(7), np.random.default_rng(7)
    numbers = fresh(ALL, first)
    np.testing.assert_array_equal(fresh(ALL, again), numbers)
    assert not (fresh(ALL, first) == numbers).all(axis=1).any()
    assert len(np.unique(numbers, axis=0)) == 4


def test_view_0_is_the_image_bit_for_bit(pixels):
    pixels = pixels * np.float32(0.7)
    np.testing.assert_array_equal(run(pixels, no_views(5)), pixels)


def test_a_flip_is_the_mirrored_image(pixels, digests):
    mirrored = pixels[:, :, ::-1]
    np.testing.assert_array_equal(run_extreme(pixels, horizontal_flip=True), mirrored)
    numbers = fixed(Augmentation(horizontal_flip=True), digests[:5])
    np.testing.assert_array_equal(run(pixels, numbers), mirrored)


@pytest.mark.parametrize(("number", "moved"), [(1, 1), (0, -1)])
def test_a_translation_by_whole_pixels_is_filled_by_reflection(pixels, number, moved):
    """A quarter of 8 rows and 12 columns are 2 and 3 pixels."""
    padded = np.pad(pixels, ((0, 0), (2, 2), (3, 3), (0, 0)), mode="symmetric")
    top, left = 2 + 2 * moved, 3 + 3 * moved
    expected = padded[:, top : top + 8, left : left + 12]
    found = run_extreme(pixels, number, translation_fraction=0.25)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_mirrored_image_is_moved_as_a_whole(pixels):
    """Flipped and moved by a quarter, as one transformation."""
    found = run_extreme(pixels, horizontal_flip=True, translation_fraction=0.25)
    expected = pixels[:, 2:, :2:-1]
    np.testing.assert_allclose(found[:, :6, 3:], expected, atol=1e-3)


def test_a_rotation_turns_about_the_centre(pixels):
    square = pixels[:, :, :8]
    found = run_extreme(square, rotation_degrees=90)
    np.testing.assert_allclose(found, np.rot90(square, axes=(1, 2)), atol=0.02)
    mirrored = run_extreme(square, rotation_degrees=90, horizontal_flip=True)
    np.testing.assert_allclose(mirrored, np.rot90(square, axes=(1, 2))[:, :, ::-1], atol=0.02)
    half = run_extreme(pixels, rotation_degrees=180)
    np.testing.assert_allclose(half, pixels[:, ::-1, ::-1], atol=0.02)


@pytest.mark.parametrize(("number", "side"), [(1, 1.5), (0, 0.5)])
def test_a_zoom_multiplies_lengths(number, side):
    """Of a ramp, whose slope is divided by the same."""
    ramp = np.broadcast_to(np.arange(12, dtype=np.float32)[:, None], (1, 12, 12, 3))
    found = run_extreme(ramp, number, zoom_fraction=0.5)
    slope = np.diff(found[0, 5, 4:8, 0])
    np.testing.assert_allclose(slope, 1 / side, rtol=1e-5)
    np.testing.assert_allclose(found[0, 5, 5:7, 0].mean(), 5.5, rtol=1e-5)


@pytest.mark.parametrize(("number", "sign"), [(1, 1), (0, -1)])
def test_brightness_is_a_fraction_of_white(pixels, number, sign):
    found = run_extreme(pixels, number, brightness=0.2)
    np.testing.assert_allclose(found, pixels + sign * 0.2 * 255, rtol=1e-5)


@pytest.mark.parametrize(("number", "factor"), [(1, 1.3), (0, 0.7)])
def test_contrast_multiplies_the_deviation_from_a_channels_mean(pixels, number, factor):
    mean = pixels.mean(axis=(1, 2), keepdims=True)
    found = run_extreme(pixels, number, contrast=0.3)
    np.testing.assert_allclose(found, mean + factor * (pixels - mean), atol=1e-3)


def test_every_image_has_a_view_of_its_own(pixels, digests):
    numbers = fixed(ALL, digests[:5])
    together = run(pixels, numbers)
    for row in range(5):
        alone = run(pixels[row : row + 1], numbers[row : row + 1])
        np.testing.assert_allclose(together[row], alone[0], atol=1e-3)
