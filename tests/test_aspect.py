"""Pictures that are not square are padded, cropped or squeezed: alike as arrays and as files."""

import copy
import json
import pickle
import warnings
from dataclasses import replace

import keras
import numpy as np
import pytest
from PIL import Image

from exports import NAMES, draw_images, fit_small, make_row, needs_tensorflow
from test_export import RUN
from tlclassify.analysis.explanation import grad_cam
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.estimators.extractor import FeatureExtractor
from tlclassify.networks.rows import BGR_CENTERED, RAW, Backbone
from tlclassify.persistence import saved_file
from tlclassify.persistence.exported import load_exported
from tlclassify.persistence.exporting import export
from tlclassify.persistence.saving import load, save

ASPECTS = ("stretch", "pad", "crop", "soft")
SHAPE = (5, 7)
X, Y = draw_images(24, SHAPE, seed=1)


def itself(x):
    """A backbone whose feature map is what it sees."""
    return keras.layers.Identity()(x)


def make_eye(scaling=RAW, size=8):
    return Backbone("eye", itself, scaling, native_size=size, small_size=size, min_size=1)


def seen(pictures, aspect, *, fitted_on=None, size=8, **options):
    """Return what a backbone sees, (n, size, size, 3)."""
    eye = FeatureExtractor(
        make_eye(size=size, **options), weights=None, aspect=aspect, pooling="flatten", verbose=0
    )
    eye.fit(pictures if fitted_on is None else fitted_on)
    return eye.transform(pictures).reshape(-1, size, size, 3)


def write(folder, pictures):
    paths = [folder / f"{number}.png" for number in range(len(pictures))]
    for picture, path in zip(pictures, paths, strict=True):
        Image.fromarray(picture).save(path)
    return paths


def draw_smooth(height, width, n=3):
    """Return soft pictures, of which every way of resizing makes nearly the same."""
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(4 * rows + k + c) + np.cos(5 * columns - c) for k in range(n) for c in range(3)]
    return (np.array(waves).reshape(n, 3, height, width).transpose(0, 2, 3, 1) * 60 + 128).astype(
        np.uint8
    )


def test_a_square_is_seen_alike_by_all():
    square = draw_smooth(11, 11)
    for aspect in ASPECTS[1:]:
        np.testing.assert_array_equal(seen(square, aspect), seen(square, "stretch"))


@pytest.mark.parametrize("turned", [False, True])
def test_padding_keeps_all_and_cropping_the_middle(turned):
    wide = np.random.default_rng(0).integers(0, 256, (2, 4, 8, 3), np.uint8)
    turn = (lambda x: x.swapaxes(1, 2)) if turned else (lambda x: x)
    padded = turn(seen(turn(wide), "pad"))
    np.testing.assert_array_equal(padded[:, 2:6], wide)
    assert not padded[:, [0, 1, 6, 7]].any()
    cropped = turn(seen(turn(wide), "crop", size=4))
    np.testing.assert_array_equal(cropped, wide[:, :, 2:6])
    # As many pixels above and below as are lost left and right of it.
    soft = turn(seen(turn(wide), "soft", size=12))
    assert not soft[:, [0, 1, 10, 11]].any()
    assert soft[:, 3:9].all(axis=(0, 2, 3)).any()


def test_padding_has_the_colour_that_a_backbone_sees_as_zero():
    wide = np.full((1, 4, 8, 3), 255, np.uint8)
    padded = seen(wide, "pad", scaling=BGR_CENTERED)[0]
    np.testing.assert_allclose(padded[[0, 1, 6, 7]], 0, atol=1e-4)
    assert (padded[2:6] > 100).all()


@pytest.mark.parametrize("aspect", ASPECTS)
@pytest.mark.parametrize("shape", [(30, 50), (50, 30)])
def test_a_picture_gives_the_same_as_array_and_as_file(tmp_path, aspect, shape):
    pictures = draw_smooth(*shape)
    paths = write(tmp_path, pictures)
    as_arrays = seen(pictures, aspect, size=16)
    np.testing.assert_array_equal(seen(paths, aspect, fitted_on=pictures, size=16), as_arrays)
    # Files that were fitted on are resized by Pillow, to whole numbers.
    np.testing.assert_allclose(seen(paths, aspect, size=16), as_arrays, atol=4)


@pytest.mark.parametrize("aspect", ASPECTS)
def test_files_of_mixed_shapes_are_framed_each_by_its_own(tmp_path, aspect):
    shapes = [(12, 20), (20, 12), (14, 14), (60, 40)]
    pictures = [draw_smooth(*shape, n=1)[0] for shape in shapes]
    together = seen(write(tmp_path, pictures), aspect)
    for number, picture in enumerate(pictures):
        alone = seen([tmp_path / f"{number}.png"], aspect)
        np.testing.assert_array_equal(together[number : number + 1], alone)
        np.testing.assert_allclose(alone, seen(picture[None], aspect), atol=8)


def test_a_file_that_a_camera_turned_is_framed_as_it_is_shown(tmp_path):
    tall = draw_smooth(20, 10, n=1)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(tall[0])).save(tmp_path / "turned.png", exif=exif)
    for aspect in ASPECTS:
        found = seen([tmp_path / "turned.png"], aspect)
        np.testing.assert_allclose(found, seen(write(tmp_path, tall), aspect), atol=1)


@pytest.mark.filterwarnings("ignore:more than a tenth")
@pytest.mark.parametrize("aspect", ASPECTS)
@pytest.mark.parametrize("shape", [(1, 1000), (1000, 1), (1, 1), (2, 1)])
def test_odd_shapes(tmp_path, aspect, shape):
    picture = np.full((1, *shape, 3), 200, np.uint8)
    for X in (picture, write(tmp_path, picture)):
        found = seen(X, aspect)
        assert set(np.unique(found.round()).tolist()) <= {0, 200}
        assert (found.round() == 200).any()


def test_long_pictures_are_warned_of_in_the_same_words(tmp_path):
    long = [np.zeros((4, 10, 3), np.uint8)] * 2
    usual = [np.zeros((9, 16, 3), np.uint8)] * 8
    folders = [tmp_path / "few", tmp_path / "many"]
    for folder in folders:
        folder.mkdir()
    few, many = write(folders[0], usual * 2 + long[:1]), write(folders[1], usual + long)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        warnings.simplefilter("ignore", DeprecationWarning)  # of Keras on PyTorch
        for _ in range(2):
            seen(few, "crop")
        assert not caught
        for X in (many, many[1:], np.stack(long)):
            seen(X, "crop")
        assert len(caught) == 1
    with pytest.warns(UserWarning, match="so long that aspect='pad' loses half of each or more"):
        seen(many, "pad")
    seen(many, "soft")


def test_the_order_of_files_decides_nothing(tmp_path):
    """Those of a folder come class by class, and one class may have other cameras."""
    shapes = [(8, 8)] * 70 + [(20, 80)] * 140
    paths = write(tmp_path, [np.zeros((*shape, 3), np.uint8) for shape in shapes])
    eye = replace(make_eye(size=224), small_size=8)
    extractor = FeatureExtractor(eye, weights=None, pooling="flatten", verbose=0)
    for X in (paths, paths[::-1]):
        with pytest.warns(UserWarning, match="more than a tenth of X are so long"):
            assert extractor.fit(X).transform(paths[:1]).shape == (1, 128**2 * 3)


@pytest.mark.parametrize("aspect", ["square", None, 1])
def test_other_words_are_refused(make_clf, images, aspect):
    with pytest.raises(ValueError, match="aspect must be one of 'stretch', 'pad'"):
        make_clf(aspect=aspect).fit(*images)
    with pytest.raises(ValueError, match="aspect must be one of 'stretch', 'pad'"):
        FeatureExtractor("mobilenet_micro", aspect=aspect).fit(images[0])


def test_stored_activations_of_a_file_are_told_apart(tmp_path):
    paths = write(tmp_path, draw_smooth(8, 16))
    for aspect in (*ASPECTS, *ASPECTS):
        eye = FeatureExtractor(make_eye(), weights=None, aspect=aspect, pooling="flatten")
        found = eye.set_params(cache_dir=tmp_path / "kept", verbose=0).transform(paths)
        np.testing.assert_array_equal(found.reshape(-1, 8, 8, 3), seen(paths, aspect))


# One takes all steps: the others lack the padding, the cropping or both.
QUICK = ["soft", *(pytest.param(aspect, marks=pytest.mark.slow) for aspect in ASPECTS[:3])]


@pytest.fixture(scope="module", params=QUICK)
def clf(request):
    """A classifier of images of 5x7 by each way; no test changes it."""
    return fit_small(SHAPE, image_size=12, aspect=request.param, predict_mirrored=True)


def test_what_is_fitted_counts_not_what_a_parameter_says_since(clf, tmp_path):
    changed = copy.copy(clf).set_params(aspect="pad" if clf.aspect == "crop" else "crop")
    expected = clf.predict_proba(X)
    np.testing.assert_array_equal(changed.predict_proba(X), expected)
    np.testing.assert_array_equal(changed.predict_proba(write(tmp_path, X)), expected)


@pytest.mark.parametrize("keep", ["save", "pickle", "deepcopy", "warm start"])
def test_it_is_kept(clf, tmp_path, keep):
    if keep == "save":
        save(clf, tmp_path / "a.tlc", card=True)
        assert f"| {clf.aspect} |" in (tmp_path / "a.tlc.md").read_text(encoding="utf-8")
        kept = load(tmp_path / "a.tlc", backbone=make_row())
    elif keep == "warm start":
        kept = copy.deepcopy(clf).set_params(warm_start=True, head_stage__learning_rate=1e-9)
        kept.fit(*draw_images(24, SHAPE))
    else:
        kept = pickle.loads(pickle.dumps(clf)) if keep == "pickle" else copy.deepcopy(clf)
    assert kept.aspect == clf.aspect
    tall = write(tmp_path, draw_images(6, (14, 10))[0])
    for images in (X, tall):
        expected = clf.predict_proba(images)
        np.testing.assert_allclose(kept.predict_proba(images), expected, atol=1e-4)


def test_a_file_from_before_there_was_a_choice_stretches(tmp_path, monkeypatch):
    clf = fit_small(SHAPE, image_size=12, aspect="stretch")
    encode = saved_file.msgspec.json.encode

    def without_the_word(manifest):
        content = json.loads(encode(manifest))
        del content["aspect"], content["parameters"]["aspect"]
        return json.dumps(content).encode()

    monkeypatch.setattr(saved_file.msgspec.json, "encode", without_the_word)
    save(clf, tmp_path / "a.tlc")
    loaded = load(tmp_path / "a.tlc", backbone=make_row())
    assert loaded.aspect == "stretch"
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))


@needs_tensorflow
@pytest.mark.parametrize("name", NAMES)
def test_exports_have_it(clf, tmp_path, name):
    path = export(clf, tmp_path / NAMES[name])
    np.testing.assert_allclose(RUN[name](path, X[:5]), clf.predict_proba(X[:5]), atol=1e-5)
    if name not in ("onnx", "openvino"):
        return
    tall = write(tmp_path, draw_images(6, (14, 10))[0])
    found = load_exported(path, engine="openvino").predict_proba(tall)
    np.testing.assert_allclose(found, clf.predict_proba(tall), atol=1e-5)


@needs_tensorflow
@pytest.mark.parametrize("name", ["onnx", "litert"])
def test_exports_in_int8_have_it(clf, tmp_path, name):
    if name not in NAMES:
        pytest.skip("this Keras does not write LiteRT")
    path = export(clf, tmp_path / NAMES[name], precision="int8", calibration_images=X)
    np.testing.assert_allclose(RUN[name](path, X[:5]), clf.predict_proba(X[:5]), atol=0.15)


def test_several_backbones_frame_each_in_its_own_size(tmp_path):
    rows = [replace(make_eye(size=size), name=f"eye_{size}") for size in (6, 10)]
    pictures = draw_smooth(12, 20)
    options = {"weights": None, "pooling": "flatten", "verbose": 0, "aspect": "pad"}
    alone = [FeatureExtractor(row, **options).fit_transform(pictures) for row in rows]
    both = FeatureExtractor(rows, **options).fit_transform(pictures)
    np.testing.assert_allclose(both, np.hstack(alone), atol=1e-4)
    of_files = FeatureExtractor(rows, **options).fit_transform(write(tmp_path, pictures))
    np.testing.assert_allclose(of_files[:, 108:], alone[1], atol=8)


@needs_tensorflow
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_engines_have_it(clf, engine):
    found = copy.copy(clf).set_params(engine=engine).predict_proba(X)
    np.testing.assert_allclose(found, clf.predict_proba(X), atol=1e-5)


def draw_spots(shapes):
    """Return gray pictures with a spot of colour away from the middle, and where it is."""
    pictures, places = [], []
    for number, (height, width) in enumerate(shapes):
        picture = np.full((height, width, 3), 128, np.uint8)
        row, column = round(0.4 * height), round(0.62 * width)
        side = min(height, width) // 8
        place = np.zeros((height, width), bool)
        place[row - side : row + side, column - side : column + side] = True
        picture[place, 2 * (number % 2)] = 255
        pictures.append(picture)
        places.append(place)
    return pictures, places, np.array(["red", "blue"])[np.arange(len(shapes)) % 2]


@pytest.mark.parametrize("aspect", ASPECTS)
@pytest.mark.parametrize("mirrored", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_heat_lies_on_the_picture_itself(tmp_path, aspect, mirrored):
    """Of arrays as of files, each of its own shape."""
    symmetric = Backbone("eye", itself, make_row().scaling, native_size=32, small_size=32)
    clf = TransferClassifier(
        symmetric, weights=None, head="linear", random_state=0, verbose=0, aspect=aspect
    ).set_params(predict_mirrored=mirrored)
    for shapes, as_files in (([(30, 48)] * 6, False), ([(30, 48), (64, 40), (40, 40)] * 4, True)):
        pictures, places, y = draw_spots(shapes)
        images = write(tmp_path, pictures) if as_files else np.stack(pictures)
        heatmaps = grad_cam(clf.fit(images, y), images, labels=y)
        assert heatmaps.shape[1:] == clf.image_shape_[:2]
        for heat, place in zip(heatmaps, places, strict=True):
            size = place.shape[::-1]
            on_picture = np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.NEAREST))
            assert on_picture[place].mean() > 0.7
            assert on_picture[~place].mean() < 0.1


def test_heat_is_zero_where_a_crop_has_cut():
    wide = np.random.default_rng(0).integers(0, 256, (12, 10, 18, 3), np.uint8)
    clf = fit_small((10, 18), image_size=12, aspect="crop")
    heatmaps = grad_cam(clf, wide)
    assert not heatmaps[:, :, [*range(4), *range(14, 18)]].any()
    assert heatmaps[:, :, 4:14].max() == 1
