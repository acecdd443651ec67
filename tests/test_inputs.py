"""What people bring: pictures in every form are read alike, or one sentence says what to do."""

import enum
import io
import os
import struct
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tlclassify._checks.files import read_image
from tlclassify._checks.images import check_images
from tlclassify._checks.parameters import check_labels
from tlclassify.datasets import ImageDataset, load_image_folder
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.inputs.images import measure_side, open_images

UNIT = np.random.default_rng(0).random((5, 8, 8, 3))


def read(X, size=(8, 8), **options):
    source = replace(open_images(X, **options), file_shape=size)
    return source.read(0, len(source))


def encode(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


# The range of floating-point pixels.


def test_a_hair_beyond_white_or_black_changes_nothing():
    """Cubic resizing leaves such pixels."""
    stray = UNIT.copy()
    stray[2, 1, 1, 0], stray[3, 0, 0, 0] = 1.19, -0.1
    assert open_images(stray).pixel_range == 1
    expected = np.rint(UNIT.clip(0, 1) * 255).astype(np.uint8)
    expected[2, 1, 1, 0], expected[3, 0, 0, 0] = 255, 0
    np.testing.assert_array_equal(read(stray), expected)
    np.testing.assert_array_equal(read(stray * 255), expected)
    np.testing.assert_array_equal(read(stray, pixel_range=1), expected)


@pytest.mark.parametrize("X", [(UNIT - 0.45) / 0.22, UNIT * 2 - 1, UNIT * 300 - 100])
def test_pixels_that_were_scaled_for_a_network_are_refused(X):
    with pytest.raises(ValueError, match=r"in 5 of 5 images.* Pass raw pixels"):
        open_images(X)


@pytest.mark.parametrize("bright", [[3], [0, 1, 2, 4]])
def test_images_of_two_ranges_are_refused_with_their_rows(bright):
    mixed = UNIT.copy()
    mixed[bright] *= 255
    dim = [row for row in range(5) if row not in bright]
    rows = [", ".join(map(str, part)) for part in (dim, bright)]
    message = (
        rf"received {len(dim)} in \[0, 1\], rows {rows[0]}, beside {len(bright)} .*{rows[1]}\."
    )
    for pixel_range in (None, 255, 1):
        with pytest.raises(ValueError, match=message):
            open_images(mixed, pixel_range=pixel_range)
    as_read = [np.rint(image).astype(np.uint8) if image.max() > 2 else image for image in mixed]
    with pytest.raises(ValueError, match=message):
        open_images(as_read)


@pytest.mark.parametrize("black", [0, 1, 0.5])
def test_black_images_are_welcome_among_others(black):
    X = UNIT * 255
    X[1] = black
    X[2, 4:], X[2, :4] = 0, 1
    np.testing.assert_array_equal(read(X), np.rint(X))


def test_one_image_of_another_range_is_told():
    with pytest.warns(UserWarning, match=r"all 1 images are nearly black.*pass X \* 255"):
        open_images(UNIT[:1], pixel_range=255)


def test_no_message_contradicts_itself():
    with pytest.raises(ValueError, match=r"in \[0, 1\].*values up to 1\.2000001"):
        open_images(np.full((1, 8, 8), 1.2000001), pixel_range=1)


# One picture.


def test_one_picture_is_not_read_as_many():
    with pytest.raises(ValueError, match=r"received \(8, 8, 3\).* pass X\[None\]"):
        open_images(UNIT[0])
    alpha = np.zeros((8, 9, 4), np.uint8)
    with pytest.raises(ValueError, match=r"received \(8, 9, 4\).* with X\[None, \.\.\., :3\]"):
        open_images(alpha)
    with pytest.raises(ValueError, match=r"grayscale image pass X\[None\]"):
        open_images(UNIT[0, :, :, 0])
    first = UNIT[0].transpose(2, 0, 1)
    with pytest.warns(UserWarning, match=r"three gray.* pass X\.transpose\(1, 2, 0\)\[None\]"):
        open_images(first)
    assert open_images(first[..., None]).images.shape == (3, 8, 8, 1)


# PIL images, encoded bytes and columns of them.


@pytest.mark.parametrize("mode", ["P", "HSV", "CMYK", "L", "LA", "RGBA", "1", "I;16", "YCbCr"])
def test_a_pil_image_is_seen_as_its_file_is(tmp_path, mode):
    image = Image.new("RGB", (8, 8), (200, 40, 30))
    image.paste((10, 250, 90), (0, 0, 4, 4))
    image = image.convert("L").convert("I;16") if mode == "I;16" else image.convert(mode)
    if mode == "I;16":
        image = image.point(lambda value: value * 257)
    expected = np.asarray(image.convert("RGB") if mode != "I;16" else image.convert("L"))
    expected = read_image(open_images([image]).images[0])
    if mode in {"P", "HSV", "CMYK", "YCbCr"}:
        np.testing.assert_array_equal(expected, np.asarray(image.convert("RGB")))
    before = image.tobytes()
    other = Image.new("L", (9, 5), 7)
    seen = read([image, other, image])
    np.testing.assert_array_equal(seen[0], expected)
    np.testing.assert_array_equal(seen[2], expected)
    assert np.unique(seen[1]).tolist() == [7]
    assert (image.tobytes(), image.mode, image.size) == (before, mode, (8, 8))
    assert measure_side(open_images([image, other])) in {8, 9}


def test_forms_of_a_picture_are_read_alike(tmp_path):
    image = Image.fromarray(np.rint(UNIT[0] * 255).astype(np.uint8))
    path = tmp_path / "Bär und Katze.png"
    image.save(path)
    forms = [
        path, str(path), os.fsencode(path), encode(image), image,
        {"bytes": encode(image), "path": "gone.png"}, {"bytes": None, "path": str(path)},
    ]  # fmt: skip
    seen = read(forms)
    assert (seen == np.asarray(image)).all()
    source = open_images(forms)
    digests = {row.tobytes() for row in source.take(np.array([0, 1, 2, 3, 5])).digests()}
    assert len(digests) == 1
    again = open_images(source.images[[3, 4]])
    np.testing.assert_array_equal(replace(again, file_shape=(8, 8)).read(0, 2), seen[:2])


@pytest.mark.parametrize("form", [bytearray, memoryview])
def test_bytes_of_a_database_are_pictures(form):
    pandas = pytest.importorskip("pandas")
    content = encode(Image.new("RGB", (8, 8), "red"))
    for forms in ([form(content)] * 2, pandas.Series([form(content)] * 2)):
        np.testing.assert_array_equal(read(forms), read([content] * 2))


def test_what_cannot_be_read_is_named_by_its_row():
    good = encode(Image.new("RGB", (8, 8)))
    forms = [good, good[:40], b"\0\1\2", {"bytes": None, "path": None}]
    with pytest.raises(OSError, match=r"3 image file") as caught:
        read(forms)
    for row in (1, 2, 3):
        assert f"X[{row}]: " in str(caught.value)
    assert "X[3]: no picture; received a NoneType" in str(caught.value)


def columns_of(values):
    pandas = pytest.importorskip("pandas")
    yield pandas.Series(values)
    yield pandas.DataFrame({"a": values})
    yield pandas.Series(values, index=range(10, 10 + len(values)))
    for name in ("polars", "pyarrow"):
        try:
            module = __import__(name)
        except ImportError:
            continue
        if name == "polars":
            yield from (module.Series(values), module.DataFrame({"a": values}))
        else:
            yield from (
                module.array(values), module.chunked_array([values]), module.table({"a": values})
            )  # fmt: skip


def test_columns_of_paths_and_of_labels(files):
    paths, y = files
    for column in columns_of([str(path) for path in paths]):
        assert open_images(column).images.tolist() == [str(path) for path in paths], type(column)
    for column in columns_of(y.tolist()):
        assert check_labels(column, n_samples=24).tolist() == y.tolist(), type(column)
    for column in columns_of([3, 1, 2]):
        assert check_labels(column, n_samples=3).tolist() == [3, 1, 2], type(column)


def test_a_column_of_hugging_face(files):
    datasets = pytest.importorskip("datasets")
    paths, y = files
    columns = {"image": [str(path) for path in paths], "label": y.tolist()}
    data = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    expected = read(paths)
    np.testing.assert_array_equal(read(data["image"]), expected)
    np.testing.assert_array_equal(read(list(data["image"])), expected)
    plain = data.cast_column("image", datasets.Image(decode=False))
    np.testing.assert_array_equal(read(plain["image"]), expected)
    assert check_labels(data["label"], n_samples=24).tolist() == y.tolist()
    with pytest.raises(ValueError, match=r"a Dataset of 2: 'image', 'label'.*X\['image'\]"):
        open_images(data)
    with pytest.raises(ValueError, match=r"a Dataset of 2: .*by X\['train'\]\['image'\]"):
        open_images(datasets.DatasetDict(train=data))
    with pytest.raises(ValueError, match=r"a DatasetDict of 2: .*by X\['train'\]"):
        open_images(datasets.DatasetDict(train=data, test=data))
    column = data.to_iterable_dataset()["image"]
    with pytest.raises(TypeError, match=r"single IterableColumn\. .*pass list\(X\)"):
        open_images(column)
    np.testing.assert_array_equal(read(list(column)), expected)


def test_columns_and_frames_of_polars(files):
    polars = pytest.importorskip("polars")
    rows = [{"bytes": path.read_bytes(), "path": None} for path in files[0]]
    np.testing.assert_array_equal(read(polars.Series(rows)), read(files[0]))
    for check in (open_images, partial(check_labels, n_samples=1)):
        with pytest.raises(TypeError, match=r"a LazyFrame has no rows yet; pass its \.collect\(\)"):
            check(polars.LazyFrame({"path": ["a.png"]}))


def test_tensors_with_channels_last():
    jax = pytest.importorskip("jax")
    np.testing.assert_array_equal(read(jax.numpy.asarray(UNIT, "float32")), read(UNIT))


class Tensor:
    """What a tensor of PyTorch has."""

    def __init__(self, values):
        self.values, self.shape, self.is_here = values, values.shape, False

    def detach(self):
        return self

    def cpu(self):
        self.is_here = True
        return self

    permute = None

    def __array__(self, dtype=None, copy=None):
        assert self.is_here, "it lies on another device"
        return self.values


def test_tensors_of_pytorch_wherever_they_lie():
    np.testing.assert_array_equal(read(Tensor(UNIT)), read(UNIT))
    with pytest.raises(ValueError, match=r"channels last with X\.permute\(0, 2, 3, 1\)"):
        open_images(Tensor(UNIT.transpose(0, 3, 1, 2)))


@pytest.mark.parametrize(
    "given",
    [
        list(UNIT.transpose(0, 3, 1, 2)),
        tuple((UNIT * 255).astype(int)),
        Tensor((UNIT * 1023).astype(int)),
        Tensor(UNIT > 0),
        UNIT.tolist()[0],
    ],
)
def test_the_way_out_is_open_to_what_was_given(given):
    with pytest.raises((TypeError, ValueError)) as caught:
        open_images(given)
    _, _, way = str(caught.value).rpartition("ass " if "ass " in str(caught.value) else "with ")
    assert len(open_images(eval(way.rstrip("."), {"X": given, "numpy": np}))) in {1, 5}


SIDES = [0, 1, 0, 1, 1]


class Stream:
    def __init__(self, **parts):
        vars(self).update(parts)

    def __iter__(self):
        yield UNIT[:3].transpose(0, 3, 1, 2), np.array([0, 1, 0])
        yield UNIT[3:].transpose(0, 3, 1, 2), np.array([1, 1])


@pytest.mark.parametrize(
    ("stream", "line"),
    [
        ((image for image in UNIT), "X = list(X)"),
        (map(np.asarray, UNIT), "X = list(X)"),
        (Stream(batch_sampler=None), None),
    ],
)
def test_a_stream_is_refused_with_the_line_that_reads_it(stream, line):
    with pytest.raises(TypeError, match="received a single") as caught:
        TransferClassifier("mobilenet_micro").fit(stream)  # as Keras would have it, without labels
    _, _, advice = str(caught.value).rpartition("with ")
    line = line or advice.rstrip(".")
    names = {"X": stream, "numpy": np}
    exec(line, names)
    np.testing.assert_array_equal(read(names["X"]), read(UNIT))


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("parts", [(UNIT, SIDES), UNIT, {"image": UNIT, "label": SIDES}])
def test_the_line_for_a_tensorflow_dataset(batched, parts):
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices(parts)
    data = data.batch(2) if batched else data
    with pytest.raises(TypeError, match=r"single _\w+Dataset.* arrays with ") as caught:
        open_images(data)
    names = {"X": data, "numpy": np, "y": np.array(SIDES)}
    exec(str(caught.value).rpartition("with ")[2].rstrip("."), names)
    np.testing.assert_array_equal(read(names["X"]), read(UNIT))
    assert names["y"].tolist() == SIDES


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Word(str, enum.Enum):
    RED = "red"
    BLUE = "blue"


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (
            [None, "a.png", float("nan"), " "],
            ValueError,
            r"received 3 among 4, rows 0, 2, 3\. Drop",
        ),
        (["a.png", 1], TypeError, r"received int in 1 of 2 rows: 1\."),
        ([(UNIT[0], 1), (UNIT[1], 0)], TypeError, r"received pairs\. Pass \[image for image, _ in"),
        ([UNIT[0], UNIT[1, ..., 0]], ValueError, r"shapes: \(8, 8\), \(8, 8, 3\)\. Resize them"),
        (Image.new("L", (8, 8)), TypeError, r"a single Image\. Pass \[X\] for one image"),
        (b"\0", TypeError, r"a single bytes\. Pass \[X\]"),
        (
            ImageDataset(UNIT, UNIT, ()),
            TypeError,
            r"single ImageDataset\. Pass X\.X, .* X\.y as y\.",
        ),
        (
            (UNIT * 1023).astype(np.uint16),
            TypeError,
            r"from \d+ to 10\d+: if white is 1023, pass X /",
        ),
        ((UNIT * 200).astype(int), TypeError, r"if white is 255, pass X\.astype\('uint8'\)"),
        (UNIT > 0.5, TypeError, r"received bool\. Pass X\.astype\('float32'\)"),
        (UNIT.astype(complex), TypeError, "received complex128"),
        (
            [io.BytesIO(), "a.png"],
            TypeError,
            r"1 of 2 rows: 0\. Pass \[file\.read\(\) for file in X",
        ),
    ],
)
def test_the_message_is_chosen_by_what_was_given(given, error, message):
    with pytest.raises(error, match=message):
        check_images(given)


def test_several_columns_are_refused():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"file": ["a.png", "b.png"], "y": ["cat", "dog"]})
    with pytest.raises(ValueError, match=r"X must be one column; .*of 2: 'file', 'y'.*X\['file'\]"):
        check_images(frame)
    with pytest.raises(ValueError, match=r"y must be one column; .*, as by y\['file'\]\.$"):
        check_labels(frame, n_samples=2)


@pytest.mark.parametrize("dtype", ["Int64", "boolean", "string", "category", "object", "float"])
def test_missing_labels_are_named_by_row(dtype):
    pandas = pytest.importorskip("pandas")
    y = pandas.Series([1, None, 0, None] * 2, dtype="object").astype(dtype)
    with pytest.raises(ValueError, match=r"missing .*1, 3, 5, 7"):
        check_labels(y, n_samples=8)


def test_labels_of_every_type():
    assert check_labels(list(Word), n_samples=2).tolist() == ["red", "blue"]
    assert check_labels(np.array(["a", "ä"], np.dtypes.StringDType()), n_samples=2)[1] == "ä"
    with pytest.raises(TypeError, match=r"a Colour\. .* by \[k\.name for k in y\]"):
        check_labels(list(Colour), n_samples=2)
    with pytest.raises(ValueError, match=r"received a int of shape \(\)\.$"):
        check_labels(3, n_samples=1)
    with pytest.raises(ValueError, match="missing labels; .* rows 1"):
        check_labels(np.ma.array([1, 2, 1], mask=[0, 1, 0]), n_samples=3)


@pytest.mark.parametrize("y", [[("a", 1), ("b", 1)], [(7, 0), (9, 1)], [(0, 1), (1, 0)]])
def test_rows_become_labels_as_the_message_says(y):
    with pytest.raises(ValueError, match=r"rows into labels with ") as caught:
        check_labels(y, n_samples=2)
    labels = eval(str(caught.value).rpartition("with ")[2].rstrip("."), {"y": y, "numpy": np})
    assert labels[0] != labels[1]
    assert len(check_labels(labels, n_samples=2)) == 2


# Odd but whole files.


def odd_files():
    image = Image.new("RGB", (16, 8), "black")
    image.paste("white", (0, 0, 8, 8))
    turned = Image.Exif()
    turned[0x0112], turned[0x010E] = 6, "hello"
    text, international = PngImagePlugin.PngInfo(), PngImagePlugin.PngInfo()
    text.add_text("a", "x" * 3_000_000, zip=True)
    international.add_itxt("a", "x" * 3_000_000, zip=True)
    early = encode(image, pnginfo=text, exif=turned)
    yield "text.png", early
    start = early.index(b"zTXt") - 4
    stop = start + 12 + int.from_bytes(early[start : start + 4], "big")
    yield "text_behind.png", early[:start] + early[stop:-12] + early[start:stop] + early[-12:]
    yield "itxt.png", encode(image, pnginfo=international, exif=turned)
    yield "profile.png", encode(image, icc_profile=b"x" * 3_000_000, exif=turned)
    photo = encode(image, "JPEG", exif=turned)
    at = photo.index(b"\x01\x0e\x00\x02") + 2
    for number, (kind, count) in enumerate([(12, 2), (10, 1), (2, 2**31), (0, 1), (5, 9999)]):
        bad = photo[:at] + struct.pack(">HI", kind, count) + photo[at + 6 :]
        yield f"tag{number}.jpg", bad


@pytest.mark.parametrize(
    ("name", "content"), list(odd_files()), ids=[name for name, _ in odd_files()]
)
@pytest.mark.filterwarnings("ignore:(Tag data|Truncated|Possibly):UserWarning")
def test_a_picture_with_odd_metadata_is_read_and_turned(tmp_path, name, content):
    for label in "ab":
        (tmp_path / label).mkdir()
        (tmp_path / label / name).write_bytes(content)
    X = load_image_folder(tmp_path, verify="full", verbose=0).X
    seen = read(X, size=(16, 8))[0]
    assert seen[:6].min() > 200
    assert seen[10:].max() < 50


def test_a_picture_cut_short_is_still_refused(tmp_path):
    image = Image.fromarray(np.rint(UNIT[0] * 255).astype(np.uint8)).resize((64, 64))
    text = PngImagePlugin.PngInfo()
    text.add_text("a", "x" * 3_000_000, zip=True)
    whole = encode(image, pnginfo=text)
    for stop in (-3000, -40, 30):
        (tmp_path / "a.png").write_bytes(whole[:stop])
        with pytest.raises(OSError, match=r"a\.png: "):
            read_image(tmp_path / "a.png")


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_values_of_few_bits_are_told(tmp_path, dtype):
    pixels = np.rint(UNIT[..., 0] * 1023).astype(dtype)
    paths = [tmp_path / f"{row}.tif" for row in range(5)]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image * (64 if path == paths[0] else 1)).save(path)
    with pytest.warns(UserWarning, match=r"4 of 5 .*above 10\d+, .*1\.tif.* / 1023") as caught:
        read(paths)
    assert len(caught) == 1
    assert "0.tif" not in str(caught[0].message)
    as_told = np.stack([Image.open(path) for path in paths[1:]]) / 1023
    np.testing.assert_allclose(read(as_told)[..., 0], UNIT[1:, ..., 0] * 255, atol=0.6)


def test_dark_images_of_eight_bits_are_not_told(tmp_path):
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        Image.new("L", (8, 8), 3).save(path)
    Image.new("I;16", (8, 8), 0).save(paths[1])
    assert read(paths).max() == 3


def test_where_a_path_leads_nowhere_the_reason_is_said(tmp_path):
    (tmp_path / "cats").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "cats" / "1.png")
    paths = ["https://example.org/a.png", str(tmp_path / "cats") + "\\1.png", "cats/1.png"]
    with pytest.raises(OSError, match=r"3 image file") as caught:
        read(paths)
    for reason in ("download it first", "one with / for \\; replace", "no such file in /"):
        assert reason in str(caught.value)
