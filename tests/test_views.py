"""What is stored at a cut, in every view, equals what the network gives there."""

import errno
import shutil

import keras
import numpy as np
import pytest

from tlclassify.activations import run as activations
from tlclassify.activations.run import (
    Pass,
    Running,
    StoredSource,
    run_once,
    store_further,
    store_images,
)
from tlclassify.engines.runners import Runner
from tlclassify.inputs.augmentation import (
    Augmentation,
    ViewSource,
    fixed_views,
    fresh_views,
    no_views,
    open_views,
)
from tlclassify.inputs.images import open_images
from tlclassify.networks.backbones import build_backbone
from tlclassify.networks.cuts import image_size, inputs_of
from tlclassify.networks.heads import add_table
from tlclassify.networks.steps import add_views
from tlclassify.training.loop import ImageInputs, StoredInputs

SIZE = (8, 8)
FLIP = Augmentation(horizontal_flip=True)
SHIFT = Augmentation(translation_fraction=0.3, brightness=0.2, n_views=3)


@pytest.fixture
def network(tiny):
    backbone = build_backbone(tiny, image_shape=SIZE, weights=None, random_state=0)
    pooled = keras.layers.GlobalAveragePooling2D(name="pooling")(backbone.output)
    return keras.Model(backbone.input, pooled, name="tiny")


@pytest.fixture
def source(images):
    return open_images(images[0])


@pytest.fixture
def parts(source):
    """16 images for training and 8 for validation."""
    return source.take(np.arange(16)), source.take(np.arange(16, 24))


def store(network, cut, parts, augmentation=None, **running):
    return store_images(network, cut, *parts, augmentation=augmentation, running=Running(**running))


def direct(network, cut, source, numbers=None):
    """Run the network itself up to a cut; on views, those are applied to the pixels first."""
    pixels = source.read(0, len(source))
    output = network.get_layer(cut).output
    if numbers is None:
        return keras.Model(network.input, output).predict_on_batch(pixels)
    return add_views(network, output).predict_on_batch([pixels, numbers])


def numbers_of(source, view, augmentation=SHIFT):
    return fixed_views(augmentation, source.digests(), view, image_size=SIZE)


def test_a_view_source_reads_images_with_their_numbers(source):
    numbers = numbers_of(source, 1)
    views = ViewSource(source, numbers, source.digests())
    assert len(views) == 24
    for part, rows in ((views, np.arange(24)), (views.take(np.array([7, 0, 7])), [7, 0, 7])):
        pixels, read = part.read(1, 3)
        np.testing.assert_array_equal(pixels, source.images[rows][1:3])
        np.testing.assert_array_equal(read, numbers[rows][1:3])


def test_a_stored_source_reads_outputs(source):
    outputs = np.arange(48, dtype=np.float16).reshape(24, 2)
    stored = StoredSource(outputs, source)
    assert len(stored) == 24
    np.testing.assert_array_equal(stored.read(3, 6), outputs[3:6])
    part = stored.take(np.array([9, 2]))
    assert len(part) == 2
    np.testing.assert_array_equal(part.read(0, 64), outputs[[9, 2]])
    np.testing.assert_array_equal(part.digests(), source.digests()[[9, 2]])


def test_digests_tell_images_and_views_apart(source):
    views = [ViewSource(source, numbers_of(source, view), source.digests()) for view in (1, 2)]
    digests = [source.digests(), *(view.digests() for view in views)]
    assert all(digest.shape == (24, 32) and digest.dtype == np.uint8 for digest in digests)
    assert len({row.tobytes() for digest in digests for row in digest}) == 3 * 24
    assert len({row.tobytes() for row in StoredSource(source.images, views[0]).digests()}) == 24


def test_equal_images_have_equal_digests(source):
    twice = source.take(np.array([4, 9, 4]))
    digests = ViewSource(twice, numbers_of(twice, 1), twice.digests()).digests()
    np.testing.assert_array_equal(digests[0], digests[2])
    assert not np.array_equal(digests[0], digests[1])
    whole = ViewSource(source, numbers_of(source, 1), source.digests())
    np.testing.assert_array_equal(whole.digests()[[4, 9, 4]], digests)


def test_the_images_themselves_are_the_first_view(source):
    assert open_views(source, Augmentation(), SIZE) == [source]
    first, *others = open_views(source, SHIFT, SIZE)
    assert first is source
    assert len(others) == 2
    for number, view in enumerate(others, start=1):
        assert view.images is source
        np.testing.assert_array_equal(view.numbers, numbers_of(source, number))


def test_with_view_0_the_network_is_as_without_views(network, source):
    viewed = add_views(network, network.output)
    found = viewed.predict_on_batch([source.images, no_views(24)])
    np.testing.assert_array_equal(found, network.predict_on_batch(source.images))
    assert {id(w) for w in viewed.weights} == {id(w) for w in network.weights}


def test_views_are_applied_after_resizing(tiny, source):
    """A network that sees 16 pixels is shown pixels that were moved by a quarter of 16."""
    network = build_backbone(tiny, image_shape=SIZE, image_size=16, weights=None, random_state=0)
    assert image_size(network) == (16, 16)
    (resized,) = inputs_of(network.get_layer("scaling"))
    numbers = no_views(24)
    numbers[:, 2] = 4
    moved = np.roll(keras.Model(network.input, resized).predict_on_batch(source.images), -4, axis=2)
    expected = keras.Model(resized, network.output).predict_on_batch(moved)
    found = add_views(network, network.output).predict_on_batch([source.images, numbers])
    # The columns that reflection filled, and their neighbours, are not what was rolled in.
    np.testing.assert_allclose(found[:, :, :4], expected[:, :, :4], atol=1e-4)


def test_without_a_generator_the_images_themselves_are_read():
    inputs = StoredInputs([np.arange(10), np.arange(10) + 100])
    np.testing.assert_array_equal(inputs.draw(np.array([3, 1, 3]), None), [3, 1, 3])


def test_each_row_is_drawn_from_its_own_views():
    views = [np.arange(10, dtype=np.float16)[:, None] + 100 * view for view in range(3)]
    rows = np.random.default_rng(0).integers(10, size=300)
    drawn = StoredInputs(views).draw(rows, np.random.default_rng(1))
    assert drawn.shape == (300, 1)
    assert drawn.dtype == np.float16
    np.testing.assert_array_equal(drawn[:, 0] % 100, rows)
    counts = np.bincount(drawn[:, 0].astype(int) // 100)
    assert len(counts) == 3
    assert (counts > 70).all()
    again = StoredInputs(views).draw(rows, np.random.default_rng(1))
    np.testing.assert_array_equal(drawn, again)


def test_a_table_gives_what_stored_views_give():
    views = list(np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32))
    held_out = np.full((2, 4), 7, np.float32)
    inputs = keras.Input((4,))
    table = add_table(keras.Model(inputs, keras.layers.Identity()(inputs)), [*views, held_out])
    numbers = StoredInputs(np.arange(15, dtype=np.int32).reshape(3, 5))
    rows = np.array([4, 0, 2, 2])
    drawn = numbers.draw(rows, np.random.default_rng(1))
    expected = StoredInputs(views).draw(rows, np.random.default_rng(1))
    np.testing.assert_array_equal(table.predict_on_batch(drawn), expected)
    np.testing.assert_array_equal(table.predict_on_batch(numbers.draw(rows, None)), views[0][rows])
    np.testing.assert_array_equal(table.predict_on_batch(np.array([15, 16], np.int32)), held_out)
    assert not table.trainable_variables


def test_images_are_drawn_in_fresh_views(source):
    rows = np.array([5, 0, 5])
    pixels, numbers = ImageInputs(source, SHIFT, SIZE).draw(rows, np.random.default_rng(0))
    np.testing.assert_array_equal(pixels, source.images[rows])
    expected = fresh_views(SHIFT, np.random.default_rng(0), 3, image_size=SIZE)
    np.testing.assert_array_equal(numbers, expected)
    assert not np.array_equal(numbers[0], numbers[2])


def test_without_a_generator_images_are_in_view_0(source):
    pixels, numbers = ImageInputs(source, SHIFT, SIZE).draw(np.array([5, 0]), None)
    np.testing.assert_array_equal(pixels, source.images[[5, 0]])
    np.testing.assert_array_equal(numbers, no_views(2))


def test_without_augmentation_the_network_takes_images_alone(source):
    inputs = ImageInputs(source, None, SIZE)
    for rng in (None, np.random.default_rng(0)):
        np.testing.assert_array_equal(inputs.draw(np.array([2, 1]), rng), source.images[[2, 1]])


@pytest.mark.parametrize(
    ("cut", "dtype", "rtol"),
    [("scaling", np.float16, 2e-3), ("one_relu", np.float16, 2e-3), ("pooling", np.float32, 1e-4)],
)
@pytest.mark.parametrize("augmentation", [None, FLIP, SHIFT])
def test_what_is_stored_equals_the_network(network, parts, augmentation, cut, dtype, rtol):
    stored = store(network, cut, parts, augmentation)
    training, validation = parts
    n_views = {None: 1, FLIP: 2, SHIFT: 3}[augmentation]
    assert [len(part) for part in stored] == [16] * n_views + [8]
    first, *views, last = (part.outputs for part in stored)
    assert {array.dtype for array in (first, *views, last)} == {np.dtype(dtype)}
    options = {"rtol": rtol, "atol": 1e-3 if dtype == np.float16 else 1e-5}
    np.testing.assert_allclose(first, direct(network, cut, training), **options)
    np.testing.assert_allclose(last, direct(network, cut, validation), **options)
    for view, array in enumerate(views, start=1):
        numbers = numbers_of(training, view, augmentation)
        np.testing.assert_allclose(array, direct(network, cut, training, numbers), **options)
        assert np.abs(array.astype(np.float32) - first).max() > 10 * options["atol"]


def test_without_validation_none_is_stored(network, parts):
    stored = store(network, "one_relu", (parts[0], None), FLIP)
    assert [len(part) for part in stored] == [16, 16]


@pytest.mark.parametrize("cut", ["one_relu", "pooling"])
def test_with_a_cache_nothing_is_run_twice(network, source, parts, runs, tmp_path, cut):
    first = store(network, cut, parts, SHIFT, cache_dir=tmp_path)
    assert sum(runs) == 3 * 16 + 8
    uncached = store(network, cut, parts, SHIFT)
    runs.clear()
    store(network, cut, parts, SHIFT, cache_dir=tmp_path)
    rows = np.array([3, 15, 0, 3])
    part = store(network, cut, (source.take(rows), parts[1]), SHIFT, cache_dir=tmp_path)
    assert sum(runs) == 0
    for view, whole, plain in zip(part[:-1], first[:-1], uncached[:-1], strict=True):
        np.testing.assert_array_equal(view.outputs, whole.outputs[rows])
        np.testing.assert_allclose(whole.outputs, plain.outputs, atol=1e-3)
    np.testing.assert_array_equal(part[-1].outputs, first[-1].outputs)


def test_another_fold_runs_no_image_in_a_view_that_is_there(network, parts, runs, tmp_path):
    store(network, "one_relu", parts, FLIP, cache_dir=tmp_path)
    runs.clear()
    store(network, "one_relu", parts[::-1], FLIP, cache_dir=tmp_path)
    assert sum(runs) == 8


def test_cuts_and_augmentations_do_not_mix_in_a_cache(network, parts, runs, tmp_path):
    choices = [("one_bn", FLIP), ("one_relu", FLIP), ("one_relu", SHIFT)]
    for cut, augmentation in choices:
        store(network, cut, parts, augmentation, cache_dir=tmp_path)
    runs.clear()
    for cut, augmentation in choices:
        stored = store(network, cut, parts, augmentation, cache_dir=tmp_path)
        expected = direct(network, cut, parts[0], numbers_of(parts[0], 1, augmentation))
        np.testing.assert_allclose(stored[1].outputs, expected, rtol=2e-3, atol=1e-3)
    assert sum(runs) == 0


def test_views_that_are_applied_otherwise_are_not_taken_over(
    network, parts, runs, monkeypatch, tmp_path
):
    def darkened(network, output):
        resized = inputs_of(network.get_layer("scaling"))[0]
        numbers = keras.Input((10,))
        seen = resized * 0.5 + 0 * numbers[:, :1, None, None]
        return keras.Model([network.input, numbers], keras.Model(resized, output)(seen))

    running = Running(cache_dir=tmp_path)
    lower = store(network, "one_relu", parts, SHIFT, cache_dir=tmp_path)
    first = store_further(network, "one_relu", lower, "pooling", running=running)
    runs.clear()
    monkeypatch.setattr(activations, "add_views", darkened)
    lower = store(network, "one_relu", parts, SHIFT, cache_dir=tmp_path)
    assert sum(runs) == 2 * 16
    found = store_further(network, "one_relu", lower, "pooling", running=running)
    assert sum(runs) == 4 * 16
    np.testing.assert_array_equal(found[0].outputs, first[0].outputs)
    assert np.abs(found[1].outputs - first[1].outputs).max() > 0.01


@pytest.mark.parametrize(("cut", "dtype"), [("two", np.float16), ("pooling", np.float32)])
def test_running_on_from_a_lower_cut_equals_the_network(network, parts, runs, tmp_path, cut, dtype):
    lower = store(network, "scaling", parts, SHIFT)
    runs.clear()
    running = Running(cache_dir=tmp_path)
    higher = store_further(network, "scaling", lower, cut, running=running)
    assert sum(runs) == 3 * 16 + 8
    training, validation = parts
    expected = [direct(network, cut, training)]
    expected += [direct(network, cut, training, numbers_of(training, view)) for view in (1, 2)]
    expected.append(direct(network, cut, validation))
    for part, other in zip(higher, expected, strict=True):
        assert part.outputs.dtype == dtype
        np.testing.assert_allclose(part.outputs, other, rtol=2e-3, atol=3e-3)
    store_further(network, "scaling", lower, cut, running=running)
    assert sum(runs) == 3 * 16 + 8


def test_running_on_without_validation(network, parts):
    lower = store(network, "one_relu", (parts[0], None), FLIP)
    higher = store_further(network, "one_relu", lower, "pooling", running=Running())
    assert len(higher) == 2


def test_too_little_room_is_said_with_the_arithmetic(network, parts, runs, monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)._replace(free=2**30 // 2)
    monkeypatch.setattr(activations.shutil, "disk_usage", lambda folder: usage)
    # 4,194,304 images of 4 x 4 x 8 numbers of 2 bytes are 1 GiB.
    many = parts[0].take(np.broadcast_to(np.intp(0), 2**22))
    message = (
        r"shape \(4194304, 4, 4, 8\), in float16, need 1\.00 GiB in .*, which has "
        r"0\.50 GiB free\. Lower augmentation__n_views, .*unfreeze='all'.*TMPDIR"
    )
    with pytest.raises(OSError, match=message) as caught:
        store(network, "one_relu", (many, None))
    assert caught.value.errno == errno.ENOSPC
    assert runs == []


@pytest.mark.parametrize("cached", [False, True])
def test_room_for_all_views_is_looked_for_before_the_first(
    network, parts, runs, monkeypatch, cached, tmp_path
):
    usage = shutil.disk_usage(tmp_path)._replace(free=32_000 if cached else 20_000)
    monkeypatch.setattr(activations.shutil, "disk_usage", lambda folder: usage)
    monkeypatch.setattr(activations, "MEMORY_LIMIT_BYTES", 100)
    # 56 x 192 x 2 bytes are more than there is free, and 24 x 192 x 2 bytes less.
    cache_dir = tmp_path if cached else None
    message = r"shape \(16, 8, 8, 3\) \+ \(16, .*\) \+ \(8, 8, 8, 3\), in float16, need 0\.00 GiB"
    with pytest.raises(OSError, match=message):
        store(network, "scaling", parts, SHIFT, cache_dir=cache_dir)
    assert runs == []
    assert list(tmp_path.iterdir()) == []
    store(network, "scaling", parts, cache_dir=cache_dir)


def test_what_fits_into_memory_needs_no_disk(network, parts, monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(activations.shutil, "disk_usage", lambda folder: usage)
    assert len(store(network, "one_relu", parts)) == 2


def test_past_the_memory_limit_everything_is_in_temporary_files(network, parts, monkeypatch):
    expected = store(network, "one_relu", parts, FLIP)
    # Each array is under the limit; the sum is over it.
    monkeypatch.setattr(activations, "MEMORY_LIMIT_BYTES", 16 * 4 * 4 * 8 * 2 + 1)
    found = store(network, "one_relu", parts, FLIP)
    for part, other in zip(found, expected, strict=True):
        assert isinstance(part.outputs, np.memmap)
        np.testing.assert_array_equal(part.outputs, other.outputs)


@pytest.mark.parametrize("cached", [False, True])
def test_an_output_too_large_for_float16_is_an_error(source, cached, tmp_path):
    inputs = keras.Input((8, 8, 3), dtype="uint8")
    model = keras.Model(inputs, keras.layers.Rescaling(1e6)(inputs))
    running = Running(cache_dir=tmp_path if cached else None)
    with pytest.raises(OverflowError, match=r"cut is 2\.\d*e\+08, and float16 ends at 65504"):
        run_once([Pass(Runner(model, "keras"), source, running, half=True)])
    (kept,) = run_once([Pass(Runner(model, "keras"), source, running)])
    np.testing.assert_allclose(kept, source.images * 1e6, rtol=1e-6)
