from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tlclassify._checks.files import read_image
from tlclassify.estimators.extractor import FeatureExtractor
from tlclassify.inputs import images
from tlclassify.inputs.images import measure_side, open_images, read_batches
from tlclassify.networks.backbones import choose_image_size, get_backbone
from tlclassify.training.stages import Stage


def read(X, **options):
    source = open_images(X, **options)
    return source.read(0, len(source))


def test_every_form_of_an_image_gives_the_same_rgb():
    gray = np.arange(2 * 4 * 5, dtype=np.uint8).reshape(2, 4, 5) * 6
    expected = np.repeat(gray[..., None], 3, axis=3)
    for form in (gray, gray[..., None], expected, gray.astype(np.float64), expected / 255):
        np.testing.assert_array_equal(read(form), expected)
        assert read(form).dtype == np.uint8


def test_input_is_never_changed():
    X = np.random.default_rng(0).random((3, 4, 4, 3))
    before = X.copy()
    read(X)
    np.testing.assert_array_equal(X, before)


def test_batches_are_the_images_in_order():
    X = np.arange(7, dtype=np.uint8)[:, None, None, None] * np.ones((7, 2, 2, 3), np.uint8)
    batches = list(read_batches(open_images(X), 3))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(batches), X)


def test_one_batch_is_read_without_a_thread(monkeypatch):
    """Its start takes as long as a small network does for an image."""
    monkeypatch.setattr(images, "ThreadPoolExecutor", lambda _: pytest.fail("was started"))
    X = np.zeros((3, 2, 2, 3), np.uint8)
    (batch,) = read_batches(open_images(X), 3)
    np.testing.assert_array_equal(batch, X)


@pytest.mark.parametrize(("values", "expected"), [((0, 1), 1), ((0, 2), 255), ((0, 255), 255)])
def test_the_range_is_decided_once(values, expected):
    X = np.full((2, 2, 2, 3), values[1], np.float32)
    assert open_images(X).pixel_range == expected
    assert open_images(X.astype(np.uint8)).pixel_range == 255


def test_a_later_range_is_held_against_the_first():
    unit, byte = np.ones((1, 2, 2, 3)), np.full((1, 2, 2, 3), 200.0)
    with pytest.raises(ValueError, match=r"lie in \[0, 1\] like the images seen in fit.*up to 200"):
        open_images(byte, pixel_range=1)
    for dark in (0, 0.5, 1):
        assert read(unit * dark, pixel_range=255).max() == round(dark)
    with pytest.warns(UserWarning, match=r"all 3 images are nearly black.*pass X \* 255"):
        open_images(np.repeat(unit, 3, axis=0), pixel_range=255)
    assert read(byte.astype(np.uint8), pixel_range=1).max() == 200


def test_a_dark_batch_keeps_the_range_of_fit():
    dim = np.full((1, 2, 2, 3), 0.5)
    np.testing.assert_array_equal(read(dim, pixel_range=1), np.full((1, 2, 2, 3), 128))


def test_files_are_resized_while_they_are_read(files, images):
    source = replace(open_images([str(path) for path in files[0]]), file_shape=(8, 8))
    np.testing.assert_array_equal(source.read(0, 24), images[0])
    small = replace(source, file_shape=(4, 6))
    assert small.read(0, 5).shape == (5, 4, 6, 3)
    assert measure_side(source) == 8


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "LA", "CMYK", "1", "I;16"])
def test_files_of_any_mode_become_rgb(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode in {"CMYK", "I;16"} else "a.png")
    Image.new(mode, (8, 8)).save(path)
    assert replace(open_images([path]), file_shape=(8, 8)).read(0, 1).shape == (1, 8, 8, 3)


@pytest.mark.parametrize(
    ("mode", "name"),
    [("I;16", "a.tif"), ("I;16B", "a.tif"), ("I", "a.tif"), ("I;16", "a.png"), ("I;16", "a.pgm")],
)
def test_sixteen_bits_of_any_mode(tmp_path, mode, name):
    dtype = {"I": np.int32, "I;16": np.uint16, "I;16B": ">u2"}[mode]
    pixels = np.array([[0, 257 * 100, 65535]], dtype)
    image = Image.frombytes(mode, (3, 1), pixels.tobytes())
    image.save(tmp_path / name)
    assert read_image(tmp_path / name)[0, :, 0].tolist() == [0, 100, 255]


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    half = np.full((8, 8), 128 * 257, np.uint16)
    Image.fromarray(half).save(tmp_path / "a.png")
    source = replace(open_images([tmp_path / "a.png"]), file_shape=(8, 8))
    assert np.unique(source.read(0, 1)).tolist() == [128]
    Image.fromarray(half.astype(np.float32)).save(tmp_path / "b.tif")
    with pytest.raises(OSError, match=r"b\.tif: more than 16 bits"):
        replace(open_images([tmp_path / "b.tif"]), file_shape=(8, 8)).read(0, 1)


def test_orientation_is_followed(tmp_path):
    image = Image.new("RGB", (8, 8))
    image.paste((255, 255, 255), (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 3
    image.save(tmp_path / "a.png", exif=exif)
    pixels = replace(open_images([tmp_path / "a.png"]), file_shape=(8, 8)).read(0, 1)[0]
    assert pixels[0].max() == 0
    assert pixels[-1].min() == 255


def test_all_unreadable_files_are_named_at_once(files):
    paths, _ = files
    paths[3].write_bytes(paths[3].read_bytes()[:60])
    paths[9].write_text("not an image")
    paths[20].unlink()
    source = replace(open_images(paths), file_shape=(8, 8))
    with pytest.raises(OSError, match="3 image file") as caught:
        list(read_batches(source, 2))
    for number in (3, 9, 20):
        assert f"{number:02d}.png" in str(caught.value)
    assert "00.png" not in str(caught.value)
    assert "no such file" in str(caught.value)


def test_one_unreadable_file_does_not_have_all_others_decoded(tmp_path, monkeypatch):
    """Their beginnings are read, and not of more than can be looked at in a moment."""
    paths = [tmp_path / f"{number}.png" for number in range(9)]
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for path in paths:
        Image.fromarray(noise).save(path)
    for number in (0, 4):  # cut short behind its header
        paths[number].write_bytes(paths[number].read_bytes()[:2000])
    for number in (5, 8):
        paths[number].write_text("not an image")
    monkeypatch.setattr(images, "_N_BEGINNINGS_READ", 5)
    source = replace(open_images(paths), file_shape=(8, 8))
    with pytest.raises(OSError, match="2 image .* cannot be read") as caught:
        source.read(0, 2)
    named = [number for number in range(9) if f"{number}.png" in str(caught.value)]
    assert named == [0, 5]


def test_many_unreadable_files_are_counted():
    paths = [f"gone{i}.png" for i in range(25)]
    with pytest.raises(OSError, match=r"25 image file(.|\n)*and 15 more"):
        measure_side(open_images(paths))


def test_digests_tell_images_apart(files, images):
    digests = open_images(images[0]).digests()
    assert digests.shape == (24, 32)
    assert len({row.tobytes() for row in digests}) == 24
    as_float = open_images(images[0] / 255).digests()
    np.testing.assert_array_equal(digests, as_float)
    by_file = open_images(files[0]).digests()
    assert len({row.tobytes() for row in by_file}) == 24
    with pytest.raises(OSError, match="1 image file"):
        open_images(["gone.png", files[0][0]]).digests()


def test_transparent_pixels_lie_on_white(tmp_path):
    """Of whatever mode: the colour below full transparency is chance."""
    rgba = Image.new("RGBA", (8, 8), (200, 0, 0, 0))
    palette = Image.new("P", (8, 8))
    palette.putpalette([10, 20, 30])
    for number, (image, options) in enumerate(
        [
            (rgba, {}),
            (Image.new("LA", (8, 8), (40, 0)), {}),
            (palette, {"transparency": 0}),
            (palette, {"transparency": bytes([0, 128])}),
            (Image.new("L", (8, 8), 7), {"transparency": 7}),
            (Image.new("RGB", (8, 8), (1, 2, 3)), {"transparency": (1, 2, 3)}),
            (Image.new("I;16", (8, 8), 1000), {"transparency": 1000}),
        ]
    ):
        path = tmp_path / f"{number}.png"
        image.save(path, **options)
        assert np.unique(read_image(path)).tolist() == [255], image.mode
    rgba.putalpha(128)
    rgba.save(path)
    np.testing.assert_allclose(read_image(path)[0, 0], [227, 127, 127], atol=1)


def test_files_of_other_formats_are_not_opened(tmp_path):
    """Some of Pillow's readers start other programs, as that of EPS does."""
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path, "EPS")
    source = replace(open_images([path]), file_shape=(8, 8))
    for use in (lambda: source.read(0, 1), lambda: measure_side(source)):
        with pytest.raises(OSError, match=r"a\.png: not an image of a known format \(BMP, GIF"):
            use()


def test_a_turned_file_is_turned_before_it_is_shrunk(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (40, 20, 3)
    assert read_image(tmp_path / "a.jpg", max_side=10).shape == (10, 5, 3)
    assert read_image(tmp_path / "a.jpg", size=(5, 10)).shape == (5, 10, 3)


def test_fits_read_memory_maps_and_never_write(tmp_path, make_clf, images):
    X, y = images
    np.save(tmp_path / "a.npy", X / 255)
    np.save(tmp_path / "y.npy", y.astype("S"))
    mapped, labels = (np.load(tmp_path / name, mmap_mode="r") for name in ("a.npy", "y.npy"))
    clf = make_clf(head_stage=Stage(epochs=1)).fit(mapped, labels)
    assert clf.classes_.tolist() == [b"cat", b"dog", b"eel"]
    constant = X / 255
    constant.flags.writeable = False
    np.testing.assert_array_equal(clf.predict_proba(constant), clf.predict_proba(mapped))
    assert set(clf.predict(mapped)) <= set(labels)


def test_a_dark_image_is_predicted_by_the_range_of_fit(make_clf, images):
    X, y = images
    clf = make_clf(head_stage=Stage(epochs=1)).fit(X.astype(np.float32), y)
    dark = np.zeros((1, 8, 8, 3), np.float32)
    dark[0, 3] = 1
    expected = clf.predict_proba(dark.astype(np.uint8))
    np.testing.assert_array_equal(clf.predict_proba(dark), expected)


@pytest.mark.parametrize("side", [32, 100, 150])
def test_files_are_seen_at_the_size_of_arrays(tmp_path, side):
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    row, sizes = get_backbone("mobilenet_025"), []
    for X in (image[None], [str(tmp_path / "a.png")]):
        extractor = FeatureExtractor(row, weights=None, random_state=0, verbose=0).fit(X)
        sizes.append(extractor.model_.get_layer("scaling").output.shape[1])
    assert sizes == [choose_image_size(row, side)] * 2
