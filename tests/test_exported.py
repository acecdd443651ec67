"""What load_exported returns behaves as the classifier did, in a process without Keras."""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.exceptions import NotFittedError

from exports import SHAPE, describe, draw_images, export_once, fit_once, needs_tensorflow
from tlclassify.engines.metadata import read_metadata
from tlclassify.engines.runtimes import list_engines
from tlclassify.estimators.extractor import FeatureExtractor
from tlclassify.persistence.exported import load_exported
from tlclassify.persistence.exporting import export

ROOT = Path(__file__).parents[1]
FILES = [("openvino", "a.xml"), ("openvino", "a.onnx"), ("onnxruntime", "a.onnx")]
HEAVY = (
    "tensorflow",
    "keras",
    "jax",
    "torch",
    "sklearn",
    "scipy",
    "matplotlib",
    "onnx",
    "tqdm",
    "safetensors",
)


@pytest.fixture
def clf():
    return fit_once()


@pytest.fixture
def folder(tmp_path_factory):
    if needs_tensorflow.args[0]:
        pytest.skip(needs_tensorflow.kwargs["reason"])
    return export_once(tmp_path_factory)["onnx"].parent


@pytest.fixture
def copied(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "copied"))


@pytest.mark.parametrize(("engine", "file"), FILES)
def test_it_predicts_as_the_classifier(clf, folder, engine, file):
    loaded = load_exported(folder / file, engine=engine)
    X, y = draw_images(11, SHAPE, seed=1)
    np.testing.assert_allclose(loaded.predict_proba(X), clf.predict_proba(X), atol=1e-5)
    np.testing.assert_array_equal(loaded.predict(X), clf.predict(X))
    assert loaded.predict(X).dtype == clf.classes_.dtype
    assert loaded.score(X, y) == clf.score(X, y)
    weights = np.arange(11)
    assert loaded.score(X, y, weights) == pytest.approx(clf.score(X, y, weights))
    np.testing.assert_array_equal(loaded.classes_, clf.classes_)
    assert loaded.image_shape_ == clf.image_shape_
    assert loaded.pixel_range_ == clf.pixel_range_
    assert loaded.engine_ == engine
    assert repr(loaded) == (
        f"<ExportedClassifier of 'two_layers': 3 classes, images of 5x7, on {engine}>"
    )


@pytest.mark.parametrize("file", ["b.onnx", "b.xml"])
def test_an_extractor_gives_the_same_features(clf, folder, tmp_path, file):
    extractor = FeatureExtractor.from_classifier(clf)
    loaded = load_exported(export(extractor, tmp_path / file), batch_size=4)
    X, _ = draw_images(11, SHAPE, seed=1)
    np.testing.assert_allclose(loaded.transform(X), extractor.transform(X), atol=1e-5)
    assert loaded.n_features_ == extractor.n_features_
    assert repr(loaded).startswith("<ExportedExtractor of 'two_layers': ")
    with pytest.raises(NotFittedError, match="FeatureExtractor instance is not fitted yet"):
        export(FeatureExtractor("mobilenet_micro"), tmp_path / file)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_the_batch_size_changes_nothing(clf, folder, batch_size):
    loaded = load_exported(folder / "a.onnx", batch_size=batch_size)
    X, _ = draw_images(11, SHAPE, seed=1)
    np.testing.assert_allclose(loaded.predict_proba(X), clf.predict_proba(X), atol=1e-5)


def test_it_takes_what_the_classifier_takes(clf, folder, tmp_path):
    loaded = load_exported(folder / "a.onnx")
    X, _ = draw_images(4, SHAPE, seed=1)
    before = X.copy()
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for path, image in zip(paths, X, strict=True):
        Image.fromarray(image).save(path)
    for images in (X, X.astype(np.float32), X[..., 0], X[..., :1], paths, list(map(str, paths))):
        found, expected = loaded.predict_proba(images), clf.predict_proba(images)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(X, before)


def test_the_pixel_range_is_held(clf, tmp_path, folder):
    X, _ = draw_images(12, SHAPE)
    scaled = copy.copy(clf)
    scaled.pixel_range_ = 1
    loaded = load_exported(export(scaled, tmp_path / "a.onnx"))
    np.testing.assert_allclose(loaded.predict_proba(X / 255), clf.predict_proba(X), atol=1e-5)
    with pytest.raises(ValueError, match=r"X must lie in \[0, 1\] like the images seen in fit"):
        loaded.predict(X.astype(float))


LABELS = [
    np.array(["", "é\n<&>\"'", "犬\ud800"]),
    np.array([-(2**63), 2**63 - 1]),
    np.array([False, True]),
    np.array([1.0, 2.5e300]),
    np.array([b"a", b"\xff"]),
    np.array([1, 255], dtype=np.uint8),
]


@pytest.mark.parametrize("classes", LABELS, ids=lambda classes: classes.dtype.name)
def test_labels_of_any_type_come_back(classes):
    found = read_metadata(describe(classes).to_json(), path="").labels
    np.testing.assert_array_equal(found, classes)
    assert found.dtype == classes.dtype


@needs_tensorflow
@pytest.mark.parametrize(("engine", "file"), FILES)
def test_a_file_holds_odd_names(clf, tmp_path, engine, file):
    odd = copy.copy(clf)
    odd.classes_ = np.array(["", "é\n\t<&>\"' ", "犬"])
    loaded = load_exported(export(odd, tmp_path / file), engine=engine)
    np.testing.assert_array_equal(loaded.classes_, odd.classes_)


BAD_IMAGES = [
    (np.zeros((2, 9, 9, 3), np.uint8), ValueError, "images of 5x7 pixels as in fit; received 9x9"),
    (np.zeros((2, 5, 7, 4), np.uint8), ValueError, "RGBA"),
    (np.zeros((0, 5, 7, 3), np.uint8), ValueError, "at least one image"),
    (np.zeros((2, 5, 7, 3), np.int64), TypeError, "must be uint8"),
    (["no.png"], OSError, r"1 image file\(s\) cannot be read:\n  - no.png: no such file"),
]


@pytest.mark.parametrize(("X", "kind", "message"), BAD_IMAGES)
def test_bad_images_are_named(folder, X, kind, message):
    with pytest.raises(kind, match=message):
        load_exported(folder / "a.onnx").predict_proba(X)


def test_labels_of_another_type_or_number_are_named(folder):
    loaded, (X, y) = load_exported(folder / "a.onnx"), draw_images(6, SHAPE)
    with pytest.raises(
        TypeError, match="y must hold labels of the type of classes_, <U3; received"
    ):
        loaded.score(X, np.arange(6))
    with pytest.raises(ValueError, match="5 labels for 6 images"):
        loaded.score(X, y[:5])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1], "sample_weight must be 6 finite numbers"),
        ([1, 1, 1, 1, 1, np.nan], "sample_weight must be 6 finite numbers"),
        ([[1], [1], [1], [1], [1], [1]], "sample_weight must be 6 finite numbers"),
        ([1, 1, 1, 1, 1, -1], "sample_weight must be .* zero or more"),
        ([0, 0, 0, 0, 0, 0], "not all zero"),
    ],
)
def test_bad_weights_are_named(folder, weights, message):
    X, y = draw_images(6, SHAPE)
    with pytest.raises(ValueError, match=message):
        load_exported(folder / "a.onnx").score(X, y, weights)


BAD_CALLS = [
    ({"path": "a.h5"}, ValueError, "path must end in .onnx or .xml; received '.*a.h5'"),
    ({"path": "b.onnx"}, FileNotFoundError, "there is no file '.*b.onnx'"),
    ({"engine": "openvno"}, ValueError, "engine must be one of .* Did you mean 'openvino'"),
    ({"path": "a.xml", "engine": "onnxruntime"}, ValueError, "engine must be one of 'auto', 'ope"),
    ({"batch_size": 0, "n_threads": 0}, ValueError, "2 parameters are not valid:\n  - batch_size"),
]


@pytest.mark.parametrize(("options", "kind", "message"), BAD_CALLS)
def test_bad_calls_are_named(folder, options, kind, message):
    options = {"path": "a.onnx", **options}
    with pytest.raises(kind, match=message):
        load_exported(folder / options.pop("path"), **options)


def test_a_missing_half_is_named(copied):
    (copied / "a.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no file '.*a\.bin'"):
        load_exported(copied / "a.xml")


def test_halves_of_two_exports_are_told_apart(copied):
    weights = copied / "a.bin"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ValueError, match=r"a.bin' does not belong to '.*a.xml', or is damaged"):
        load_exported(copied / "a.xml")


@pytest.mark.parametrize("engine", list_engines())
def test_a_graph_from_elsewhere_is_named(copied, engine):
    import onnx

    model = onnx.load(copied / "a.onnx")
    del model.metadata_props[:]
    onnx.save(model, copied / "a.onnx")
    with pytest.raises(ValueError, match="path must name a file that tlclassify.export has writt"):
        load_exported(copied / "a.onnx", engine=engine)


@pytest.mark.parametrize("engine", list_engines())
def test_metadata_of_another_graph_are_named(copied, engine):
    import onnx

    model = onnx.load(copied / "a.onnx")
    said = describe(np.array(["a", "b"]))
    onnx.helper.set_model_props(model, {"tlclassify": said.to_json()})
    onnx.save(model, copied / "a.onnx")
    message = r"says that it maps images \(5, 7, 3\) to classes \(2,\), but its graph maps"
    with pytest.raises(ValueError, match=message):
        load_exported(copied / "a.onnx", engine=engine)


GOOD = json.loads(describe(np.array(["a", "b"])).to_json())
BAD_METADATA = [
    ("[]", "Expected `object`, got `array`"),
    ("{", "Expecting property name"),
    ({"format": 2}, "Invalid enum value 2.*format"),
    ({"image_shape": [5, 7]}, "length 3.*image_shape"),
    ({"image_shape": [5, 7, 4]}, "Invalid enum value 4.*image_shape"),
    ({"image_shape": [5, -7, 3]}, ">= 1 .*image_shape"),
    ({"image_shape": [5, True, 3]}, "got `bool`.*image_shape"),
    ({"pixel_range": 2}, "Invalid enum value 2.*pixel_range"),
    ({"version": None}, "Expected `str`, got `null`.*version"),
    ({"classes": ["a", "a"]}, "classes must be one or more, all different"),
    ({"classes": ["a", 1]}, "classes must be .* of '<U1'"),
    ({"classes": []}, "classes must be one or more"),
    ({"classes": ["a", "bc"]}, "classes must be .* all different, and of '<U1'"),
    ({"classes": [1, 300], "classes_dtype": "|u1"}, "300 out of bounds for uint8"),
    ({"classes_dtype": "O"}, "classes_dtype must be one of labels; received 'O'"),
    ({"classes_dtype": "<U9999999"}, "2 classes of '<U9999999' are too large"),
]


@pytest.mark.parametrize(("change", "message"), BAD_METADATA, ids=lambda value: str(value)[:30])
def test_metadata_are_checked(change, message):
    text = change if isinstance(change, str) else json.dumps({**GOOD, **change})
    with pytest.raises(ValueError, match=re.compile(f"'f' says of itself is not valid.*{message}")):
        read_metadata(text, path="f")


def run_python(code, python=sys.executable, **options):
    return subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True, **options
    ).stdout


SCORE = """
import json, sys
import numpy as np
from tlclassify import load_exported
images = np.load(sys.argv[1] if len(sys.argv) > 1 else "images.npy")
loaded = load_exported({file!r}, engine={engine!r})
print(json.dumps([loaded.predict_proba(images).tolist(), loaded.predict(images).tolist()]))
"""
BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {heavy!r}:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Blocker())
"""


@pytest.mark.parametrize(("engine", "file"), FILES)
def test_it_runs_where_keras_cannot_be_imported(clf, copied, engine, file):
    X, _ = draw_images(5, SHAPE, seed=1)
    np.save(copied / "images.npy", X)
    code = BLOCKER.format(heavy=HEAVY) + SCORE.format(file=file, engine=engine)
    probabilities, labels = json.loads(run_python(code, cwd=copied))
    np.testing.assert_allclose(probabilities, clf.predict_proba(X), atol=1e-5)
    assert labels == clf.predict(X).tolist()


def test_the_blocker_blocks():
    with pytest.raises(subprocess.CalledProcessError, match="returned non-zero") as raised:
        run_python(BLOCKER.format(heavy=HEAVY) + "import keras.layers")
    assert "ImportError: blocked: keras" in raised.value.stderr


@pytest.mark.slow
def test_an_install_without_keras_is_enough(clf, copied):
    """`pip install --no-deps tlclassify`, and numpy, pillow, msgspec and onnxruntime beside it."""
    if "TLCLASSIFY_INSTALL" not in os.environ:
        pytest.skip("set TLCLASSIFY_INSTALL=1 to let pip fetch packages into a new environment")
    X, _ = draw_images(5, SHAPE, seed=1)
    np.save(copied / "images.npy", X)
    venv.create(copied / "venv", with_pip=True)
    python = copied / "venv" / "bin" / "python"
    for packages in (["--no-deps", str(ROOT)], ["numpy", "pillow", "msgspec", "onnxruntime"]):
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    code = SCORE.format(file="a.onnx", engine="auto")
    probabilities, _ = json.loads(run_python(code, python=str(python), cwd=copied))
    np.testing.assert_allclose(probabilities, clf.predict_proba(X), atol=1e-5)
    with pytest.raises(subprocess.CalledProcessError, match="returned non-zero"):
        run_python("import keras", python=str(python))
