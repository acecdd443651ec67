"""A head trained on a folder of features is the one that its images would give."""

import numpy as np
import pytest

from exports import needs_tensorflow
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.estimators.extractor import FeatureExtractor
from tlclassify.jobs import features as module
from tlclassify.jobs.features import fit_features
from tlclassify.jobs.files import predict_files
from tlclassify.persistence.exporting import export
from tlclassify.persistence.saving import load, save
from tlclassify.training.stages import Stage

pytest.importorskip("pyarrow")
pytestmark = needs_tensorflow
EPOCHS = {"head_stage": Stage(epochs=1, batch_size=8), "validation_fraction": 0.25}


@pytest.fixture
def extractor(tiny, files):
    return FeatureExtractor(tiny, weights=None, random_state=0, verbose=0).fit(files[0])


@pytest.fixture
def folder(extractor, files, tmp_path):
    """Features of 24 photographs in three files, and of one that cannot be read in a fourth."""
    model = export(extractor, tmp_path / "extractor.onnx")
    options = {"what": "features", "rows_per_file": 8, "verbose": 0}
    with pytest.warns(UserWarning, match="1 of 25 images could not be read"):
        return predict_files(model, [*files[0], "no.png"], tmp_path / "features", **options)


@pytest.fixture
def labels(files):
    return dict(zip(map(str, files[0]), files[1].tolist(), strict=True))


@pytest.mark.parametrize("params", [{}, EPOCHS], ids=["exact", "epochs"])
def test_it_is_the_head_that_the_images_would_give(
    extractor, folder, files, labels, tiny, monkeypatch, params
):
    plain = TransferClassifier(tiny, weights=None, random_state=0, verbose=0, **params)
    clf = fit_features(folder, labels, extractor=extractor, classifier=plain)
    # The same network: a seed makes other weights in a classifier than in an extractor.
    backbone = FeatureExtractor.from_classifier(clf).backbone
    expected = plain.set_params(backbone=backbone, weights="pretrained").fit(*files)
    found = clf.predict_proba(files[0])
    np.testing.assert_allclose(found, expected.predict_proba(files[0]), atol=1e-3)
    assert clf.classes_.tolist() == ["cat", "dog", "eel"]
    assert [row["loss"] for row in clf.history_] == pytest.approx(
        [row["loss"] for row in expected.history_], rel=1e-2
    )
    if not params:
        return
    monkeypatch.setattr(module, "MEMORY_LIMIT_BYTES", 1)
    on_disk = fit_features(folder, labels, extractor=extractor, classifier=plain)
    np.testing.assert_allclose(on_disk.predict_proba(files[0]), found, atol=1e-3)


def test_images_without_a_label_are_left_out(extractor, folder, files, labels):
    few = dict(list(labels.items())[:6])
    clf = fit_features(folder, few, extractor=extractor)
    assert sum(map(sum, clf.blueprint_.class_counts)) == 6
    assert clf.predict(files[0]).tolist() == files[1].tolist()


def test_a_saved_classifiers_features_make_another_that_is_saved(
    registered, make_clf, files, labels, tmp_path
):
    first = make_clf(head_stage="auto", validation_fraction=0).fit(*files)
    save(first, tmp_path / "a.tlc")
    options = {"what": "features", "runtime": "keras", "verbose": 0}
    predict_files(tmp_path / "a.tlc", files[0], tmp_path / "features", **options)
    two = {path: label == "eel" for path, label in labels.items()}
    clf = fit_features(tmp_path / "features", two, extractor=first)
    assert clf.classes_.tolist() == [False, True]
    assert clf.score(files[0], list(two.values())) == 1
    assert first.classes_.tolist() == ["cat", "dog", "eel"]
    save(clf, tmp_path / "b.tlc")
    loaded = load(tmp_path / "b.tlc").predict_proba(files[0])
    np.testing.assert_allclose(loaded, clf.predict_proba(files[0]), atol=1e-5)


def test_bad_calls_are_named(extractor, folder, files, labels, tiny, tmp_path):
    other = FeatureExtractor(tiny, weights=None, random_state=1, verbose=0).fit(files[0])
    with pytest.raises(ValueError, match="folder must have features of this extractor"):
        fit_features(folder, labels, extractor=other)
    for params in ({"augmentation": "flip"}, {"fine_tune_stage": "top"}, {"warm_start": True}):
        with pytest.raises(ValueError, match="classifier must train a new head on images as they"):
            fit_features(
                folder, labels, extractor=extractor, classifier=TransferClassifier(**params)
            )
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fit_features(tmp_path / "nowhere", labels, extractor=extractor)
    with pytest.raises(
        ValueError, match="y must have paths of .*features'; none of its 0 is there"
    ):
        fit_features(folder, {}, extractor=extractor)
