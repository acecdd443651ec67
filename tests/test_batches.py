"""A batch of any library goes in, the same rows come out, and one bad image costs one row."""

import io
import pickle
import shutil

import numpy as np
import pytest
from PIL import Image

from exports import (
    SHAPE,
    draw_images,
    export_once,
    fit_once,
    needs_tensorflow,
    run_without_keras,
)
from tlclassify.estimators.extractor import FeatureExtractor
from tlclassify.jobs.batches import BatchPredictor
from tlclassify.persistence.exported import load_exported
from tlclassify.persistence.exporting import export
from tlclassify.persistence.saving import save

pytestmark = needs_tensorflow


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return export_once(tmp_path_factory)["onnx"]


@pytest.fixture
def predict(path):
    return BatchPredictor(path, batch_size=4)


@pytest.fixture
def batch(tmp_path):
    """Five images of the network's shape as files, the third of them missing."""
    X, _ = draw_images(5, SHAPE, seed=1)
    paths = [str(tmp_path / f"{row}.png") for row in range(5)]
    for row in (0, 1, 3, 4):
        Image.fromarray(X[row]).save(paths[row])
    return X, {"path": paths, "n": list(range(5))}


def encode(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def test_one_bad_image_costs_one_row(path, predict, batch):
    X, columns = batch
    found, good = predict(columns), [0, 1, 3, 4]
    assert [*found] == ["path", "n", "label", "probability", "probabilities", "error"]
    assert found["error"].tolist() == [
        None,
        None,
        f"{columns['path'][2]}: no such file",
        None,
        None,
    ]
    expected = load_exported(path).predict_proba(X[good])
    np.testing.assert_allclose(found["probabilities"][good], expected, atol=1e-6)
    np.testing.assert_array_equal(found["probability"][good], expected.max(axis=1), strict=True)
    assert found["label"].tolist()[:2] == predict.classes_[expected.argmax(axis=1)].tolist()[:2]
    assert found["label"][2] is None
    assert np.isnan(found["probability"][2])
    assert np.isnan(found["probabilities"][2]).all()
    assert (found["path"], found["n"]) == (columns["path"], columns["n"])


KINDS = {
    "array": lambda X: X,
    "arrays": list,
    "lists": lambda X: X.tolist(),
    "floats": lambda X: X.astype(np.float32),
    "pictures": lambda X: [Image.fromarray(image) for image in X],
    "bytes": lambda X: np.array([encode(image) for image in X], dtype=object),
    "dicts": lambda X: [{"bytes": encode(image), "path": None} for image in X],
}


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_every_kind_are_the_same_images(path, predict, kind):
    X, _ = draw_images(5, SHAPE, seed=1)
    found = predict({"image": KINDS[kind](X)})
    expected = load_exported(path).predict_proba(X)
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-6)
    assert "image" not in found
    assert found["error"].tolist() == [None] * 5


def test_pixels_of_another_shape_are_brought_to_the_networks(predict, tmp_path):
    large, _ = draw_images(1, (20, 14))
    grey = large[0, :, :, 0]
    Image.fromarray(large[0]).save(tmp_path / "a.png")
    Image.fromarray(grey).save(tmp_path / "b.png")
    found = predict({"image": [large[0], tmp_path / "a.png", grey, tmp_path / "b.png"]})
    rows = found["probabilities"]
    np.testing.assert_array_equal(rows[[0, 2]], rows[[1, 3]])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, r"image\[0\]: no picture; received a NoneType"),
        (b"GIF89a", r"image\[0\]: .+"),
        (np.zeros((3, 5, 7), np.uint8), r"image\[0\] must .* Put channels last"),
        (np.full((5, 7, 3), np.nan), r"image\[0\] must be finite"),
        ("", "no regular file"),
    ],
)
def test_what_is_no_image_is_said_in_its_row(predict, image, message):
    good = draw_images(1, SHAPE)[0][0]
    found = predict({"image": [image, good]})
    assert found["error"][1] is None
    assert found["label"].tolist()[0] is None
    with pytest.raises(ValueError, match=message):
        raise ValueError(found["error"][0])


def test_only_bad_images_and_none_at_all(predict):
    found = predict({"path": ["no.png"]})
    assert found["label"].tolist() == [None]
    assert found["probabilities"].shape == (1, 3)
    assert predict({"path": []})["probabilities"].shape == (0, 3)


def test_a_frame_keeps_its_index(predict, batch):
    pd = pytest.importorskip("pandas")
    _, columns = batch
    frame = pd.DataFrame(columns, index=[9, 8, 7, 6, 5])
    found = predict(frame)
    assert found.index.tolist() == [9, 8, 7, 6, 5]
    assert found["n"].tolist() == columns["n"]
    np.testing.assert_array_equal(
        np.stack(found["probabilities"]), predict(columns)["probabilities"]
    )


def test_arrow_and_polars(predict, batch):
    pa, pl = pytest.importorskip("pyarrow"), pytest.importorskip("polars")
    _, columns = batch
    expected = predict(columns)["probabilities"]
    for table in (pa.table(columns), pl.DataFrame(columns)):
        np.testing.assert_array_equal(predict(table)["probabilities"], expected)


def test_hugging_face_maps_it(path, batch, tmp_path):
    datasets = pytest.importorskip("datasets")
    X, columns = batch
    images = datasets.Dataset.from_dict({"image": [*map(Image.fromarray, X)], "label": [0] * 5})
    predict = BatchPredictor(path, what="labels", prefix="predicted_")
    found = images.map(predict, batched=True, batch_size=2)
    expected = load_exported(path).predict(X).tolist()
    assert found["predicted_label"][:] == expected
    assert found["label"][:] == [0] * 5
    named = datasets.Dataset.from_dict(columns).map(BatchPredictor(path), batched=True)
    assert named["error"][2] == f"{columns['path'][2]}: no such file"
    assert named["label"][:2] == expected[:2]


def test_it_travels_and_needs_its_file_where_it_arrives(path, tmp_path, batch):
    columns = batch[1]
    copied = shutil.copy(path, tmp_path / "model.onnx")
    predict = BatchPredictor(copied, what="labels")
    packed = pickle.dumps(predict)
    assert len(packed) < 5000
    arrived = pickle.loads(packed)
    assert arrived(columns)["label"].tolist() == predict(columns)["label"].tolist()
    copied.write_bytes(copied.read_bytes() + b"\0")
    with pytest.raises(ValueError, match=r"model.onnx' is another one by now"):
        pickle.loads(packed)(columns)
    # One that is loaded goes on.
    assert arrived(columns)["label"].tolist() == predict(columns)["label"].tolist()


def test_features_are_those_of_the_extractor(registered, make_clf, images, tmp_path):
    X, y = images
    clf = make_clf(head_stage="auto", validation_fraction=0).fit(X, y)
    extractor = FeatureExtractor.from_classifier(clf)
    save(clf, tmp_path / "a.tlc")
    paths = [tmp_path / "a.tlc", export(extractor, tmp_path / "a.onnx")]
    for path, engine in zip(paths, ("keras", "auto"), strict=True):
        predict = BatchPredictor(path, what="features", engine=engine)
        found = predict({"image": [*X, None]})
        np.testing.assert_allclose(found["features"][:-1], extractor.transform(X), atol=1e-5)
        assert np.isnan(found["features"][-1]).all()
        assert [*found] == ["features", "error"]
        assert predict.n_outputs_ == 12
    saved = BatchPredictor(paths[0], engine="keras")
    np.testing.assert_array_equal(saved({"image": X})["probabilities"], clf.predict_proba(X))
    with pytest.raises(ValueError, match="n_threads must be None for a saved classifier"):
        BatchPredictor(paths[0], n_threads=1)
    with pytest.raises(ValueError, match="what must be one of 'features'; received 'labels'"):
        BatchPredictor(paths[1], what="labels")


def test_bad_calls_are_named(path, predict, tmp_path):
    with pytest.raises(ValueError, match="what must be one of .*; received 'label'.*'labels'"):
        BatchPredictor(path, what="label")
    with pytest.raises(ValueError, match="what must be one of 'probabilities', 'labels'; received"):
        BatchPredictor(path, what="features")
    with pytest.raises(FileNotFoundError, match="no.onnx"):
        BatchPredictor(tmp_path / "no.onnx")
    with pytest.raises(ValueError, match="column must be one of 'photo', 'n'; received 'path'"):
        predict({"photo": [], "n": []})
    with pytest.raises(ValueError, match="column must be .* received 'photos'.*mean 'photo'"):
        BatchPredictor(path, column="photos")({"photo": []})
    with pytest.raises(
        ValueError, match="prefix must .* apart from 'label' of the batch; received ''. Pass"
    ):
        predict({"path": ["a.png"], "label": [1]})


def test_an_exported_one_needs_no_keras(path):
    run_without_keras(
        "from tlclassify import BatchPredictor\n"
        f"BatchPredictor({str(path)!r})({{'path': ['no.png']}})"
    )


def test_labels_keep_their_type(tmp_path, path):
    assert fit_once().classes_.dtype.kind == "U"
    found = BatchPredictor(path)({"image": draw_images(2, SHAPE)[0]})
    assert [type(label) for label in found["label"]] == [str, str]
