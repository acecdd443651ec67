"""Seeds, weights and the split of images."""

import random
import threading
import time

import numpy as np
import pytest

from tlclassify.inputs.splits import check_weights, draw_seeds, seeded, split_rows


def split(counts, fraction, seed=0):
    targets = np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    training, held_out = split_rows(targets, np.arange(len(counts)), fraction, seed)
    assert np.array_equal(np.sort(np.concatenate([training, held_out])), np.arange(len(targets)))
    return [np.bincount(targets[rows], minlength=len(counts)) for rows in (training, held_out)]


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.8, 0.99])
@pytest.mark.parametrize("counts", [(100, 2, 3), (2, 2), (3, 2, 50, 7, 2), (1000, 999)])
def test_each_class_stands_on_both_sides(counts, fraction):
    for seed in range(20):
        training, held_out = split(counts, fraction, seed)
        assert training.min() > 0
        assert held_out.min() > 0
        # No class is further from its share than one image, if it has them to spare.
        shares = np.clip(fraction * np.array(counts), 1, np.array(counts) - 1)
        assert (np.abs(held_out - shares) <= 1).all()


@pytest.mark.parametrize(
    ("counts", "fraction", "expected"),
    [((25,) * 10, 0.1, 25), ((60, 40), 0.25, 25), ((7, 7, 7), 0.5, 10), ((100, 50), 0.99, 148)],
)
def test_as_many_are_held_out_as_asked(counts, fraction, expected):
    assert split(counts, fraction)[1].sum() == expected


def test_the_seed_decides_the_split():
    targets = np.arange(40) % 4
    first, same, other = (split_rows(targets, np.arange(4), 0.3, seed)[1] for seed in (1, 1, 2))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_a_class_without_images_or_with_one():
    """Without: a warm start has all of them elsewhere."""
    targets, classes = np.array([0, 0, 2, 2]), np.array(["cat", "dog", "eel"])
    training, held_out = split_rows(targets, classes, 0.5, 0)
    assert sorted(targets[training]) == sorted(targets[held_out]) == [0, 2]
    with pytest.raises(ValueError, match="two images of each class.*received one of 'eel'. Add"):
        split_rows(targets[:3], classes, 0.5, 0)
    assert split_rows(targets[:3], classes, 0, 0)[1].size == 0


def test_threads_take_turns_at_seeding():
    """So each draws what it draws alone, and the generator is left as it was."""

    def draw(seed):
        with seeded(seed), seeded(seed):
            drawn = []
            for _ in range(5):
                drawn.append(random.random())
                time.sleep(0.002)
        return drawn

    random.seed(5)
    state = random.getstate()
    alone = draw(3)
    found = []
    threads = [threading.Thread(target=lambda: found.append(draw(3))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [alone] * 4
    assert random.getstate() == state


def test_a_generator_gives_seeds_too():
    assert draw_seeds(3, 2) == draw_seeds(np.random.RandomState(3), 2)
    with pytest.raises(ValueError, match="random_state must be an integer .* received 'three'"):
        draw_seeds("three", 1)


def test_weights_of_images_and_classes_are_multiplied():
    labels = np.array(["a", "a", "a", "b"])
    classes = np.array(["a", "b"])
    assert check_weights(None, None, labels, classes) is None
    found = check_weights([1, 2, 0, 1], {"a": 3}, labels, classes)
    assert found.tolist() == [3, 6, 0, 1]
    assert found.dtype == np.float32
    balanced = check_weights(None, "balanced", labels, classes)
    np.testing.assert_allclose(balanced, [2 / 3, 2 / 3, 2 / 3, 2])


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ({"c": 1}, "of labels in y; received {'c': 1}. The labels are 'a', 'b'"),
        ({"a": -1}, "zero or more, .*received {'a': -1}"),
        ({"a": float("nan")}, "zero or more, .*received {'a': nan}"),
        ({"a": "much"}, "zero or more, .*received {'a': 'much'}"),
        ([1, 2], r"'balanced' or a dict from label to weight; received \[1, 2\]"),
    ],
)
def test_bad_class_weights(class_weight, message):
    with pytest.raises(ValueError, match=message):
        check_weights(None, class_weight, np.array(["a", "b"]), np.array(["a", "b"]))
