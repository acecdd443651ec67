"""An epoch reads every row once, with its own target and weight."""

import tracemalloc

import numpy as np
import pytest

from tlclassify.inputs.augmentation import Augmentation, no_views
from tlclassify.inputs.images import open_images
from tlclassify.training.loop import Examples, ImageInputs, StoredInputs

TARGETS = np.arange(50) % 3
SIZE = (64, 64)


def make(n_views=1, **options):
    """Inputs that tell their row, and in their hundreds their view."""
    views = [np.arange(50) + 100 * view for view in range(n_views)]
    options = {"n_classes": 3, "batch_size": 16, **options}
    return Examples(StoredInputs(views), TARGETS, **options)


def make_plain(augmentation=None, **options):
    """Images of one colour: 0 in class 0 and 200 in class 1."""
    targets = np.arange(16) % 2
    shades = (200 * targets).astype(np.uint8)[:, None, None, None]
    images = np.broadcast_to(shades, (16, *SIZE, 3))
    inputs = ImageInputs(open_images(images), augmentation, SIZE)
    return Examples(inputs, targets, n_classes=2, batch_size=16, **options)


def read(examples):
    batches = [examples[number] for number in range(len(examples))]
    return [np.concatenate(parts) for parts in zip(*batches, strict=True)]


@pytest.mark.parametrize("seed", [None, 0])
def test_targets_and_weights_follow_their_rows(seed):
    weight = np.random.default_rng(0).random(50).astype(np.float32)
    rows, targets, weights = read(make(seed=seed, sample_weight=weight))
    np.testing.assert_array_equal(targets, np.eye(3)[TARGETS[rows]])
    np.testing.assert_array_equal(weights, weight[rows])
    assert targets.dtype == weights.dtype == np.float32


def test_many_classes_cost_a_row_an_image_and_no_matrix():
    examples = Examples(StoredInputs([np.arange(8)]), np.arange(8), n_classes=10_000, batch_size=8)
    tracemalloc.start()
    _, targets = examples[0]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert targets.shape == (8, 10_000)
    assert peak < 4 * targets.nbytes


def test_smoothing_gives_a_share_of_each_target_to_all_classes():
    targets = read(make(label_smoothing=0.3))[1]
    np.testing.assert_allclose(targets, 0.7 * np.eye(3)[TARGETS] + 0.1, rtol=1e-6)


def test_without_weights_a_batch_has_none():
    assert len(make()[0]) == 2


@pytest.mark.parametrize("batch_size", [1, 16, 25, 50, 64])
def test_every_row_is_read_once_an_epoch(batch_size):
    examples = make(seed=0, batch_size=batch_size)
    for _ in range(3):
        assert len(examples) == -(-50 // batch_size)
        assert len(examples[0][0]) == min(batch_size, 50)
        np.testing.assert_array_equal(np.sort(read(examples)[0]), np.arange(50))
        examples.on_epoch_end()


def test_a_batch_is_the_same_however_often_it_is_asked_for():
    examples = make(n_views=4, seed=0)
    batches = [examples[number][0] for number in range(4)]
    for number in (3, 0, 2, 2, 1):
        np.testing.assert_array_equal(examples[number][0], batches[number])


def test_fresh_views_too_are_the_same_when_asked_for_again():
    examples = make_plain(Augmentation(rotation_degrees=30), seed=0)
    (_, first), (_, again) = examples[0][0], examples[0][0]
    np.testing.assert_array_equal(first, again)
    examples.on_epoch_end()
    assert not (examples[0][0][1] == first).all(axis=1).any()


def test_the_order_is_new_every_epoch_and_decided_by_the_seed():
    def epochs(seed):
        examples, orders = make(seed=seed), []
        for _ in range(3):
            orders.append(tuple(read(examples)[0]))
            examples.on_epoch_end()
        return orders

    assert epochs(3) == epochs(3)
    assert len({tuple(range(50)), *epochs(3), *epochs(4)}) == 7


def test_every_batch_and_epoch_draws_other_views():
    """The view of each row, in two epochs."""
    examples = make(n_views=2, seed=0, batch_size=25)
    drawn = []
    for _ in range(2):
        found = read(examples)[0]
        assert set(found // 100) == {0, 1}
        drawn.append(found[np.argsort(found % 100)] // 100)
        by_batch = (found // 100).reshape(2, 25)
        assert not np.array_equal(by_batch[0], by_batch[1])
        examples.on_epoch_end()
    assert not np.array_equal(*drawn)


def test_without_a_seed_the_order_is_kept_and_every_image_is_itself():
    examples = make(n_views=3)
    for _ in range(2):
        np.testing.assert_array_equal(read(examples)[0], np.arange(50))
        examples.on_epoch_end()
    _, numbers = make_plain(Augmentation(rotation_degrees=30))[0][0]
    np.testing.assert_array_equal(numbers, no_views(16))


MIXINGS = {
    "mixup": Augmentation(mixup_alpha=1),
    "cutmix": Augmentation(cutmix_factor=1),
    "both": Augmentation(mixup_alpha=1, cutmix_factor=1),
}


@pytest.mark.parametrize("mixing", MIXINGS)
def test_labels_are_mixed_as_pixels_are(mixing):
    """An image of one colour a class: its mean tells the share of class 1.

    CutMix counts what it pastes in fractions of pixels, of which 64 a side leave 3 percent.
    """
    examples = make_plain(mixing=MIXINGS[mixing], seed=0)
    for _ in range(3):
        images, targets = examples[0]
        assert images.shape == (16, *SIZE, 3)
        assert images.dtype == np.uint8
        assert targets.shape == (16, 2)
        assert targets.dtype == np.float32
        np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-5)
        np.testing.assert_allclose(targets[:, 1], images.mean(axis=(1, 2, 3)) / 200, atol=0.035)
        assert ((targets > 0.01) & (targets < 0.99)).any()
        examples.on_epoch_end()


def test_mixup_mixes_every_pixel_alike_and_cutmix_pastes():
    for number in range(2):
        flat = make_plain(mixing=MIXINGS["mixup"], seed=number)[0][0].reshape(16, -1)
        assert (flat == flat[:, :1]).all()
        assert len(np.unique(flat)) > 4
        pasted = make_plain(mixing=MIXINGS["cutmix"], seed=number)[0][0]
        assert set(np.unique(pasted)) == {0, 200}


@pytest.mark.parametrize("mixing", MIXINGS)
def test_mixing_leaves_views_as_they_are_drawn(mixing):
    augmentation = Augmentation(rotation_degrees=30)
    (_, views), _ = make_plain(augmentation, seed=0)[0]
    (images, mixed), _ = make_plain(augmentation, mixing=MIXINGS[mixing], seed=0)[0]
    np.testing.assert_array_equal(mixed, views)
    assert images.dtype == np.uint8


def test_a_mixed_batch_is_the_same_however_often_asked_for():
    examples = make_plain(mixing=MIXINGS["both"], seed=0)
    for first, again in zip(examples[0], examples[0], strict=True):
        np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("mixing", MIXINGS)
def test_the_seed_decides_what_is_mixed(mixing):
    (first, _), (again, _), (other, _) = (
        make_plain(mixing=MIXINGS[mixing], seed=seed)[0] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("options", [{"mixing": MIXINGS["both"]}, {"seed": 0}])
def test_nothing_is_mixed_without_a_seed_or_without_being_asked(options):
    options = {"mixing": Augmentation(), **options}
    images, targets = make_plain(**options)[0]
    assert (images == images[:, :1, :1, :1]).all()
    np.testing.assert_array_equal(targets[:, 1], images[:, 0, 0, 0] // 200)
    assert set(np.unique(targets)) == {0, 1}
