"""The user's callbacks: what model they get, when they are told, and what a fit leaves in them."""

import csv
import pickle

import keras
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from tlclassify.training.stages import Stage

HEAD = Stage(2, learning_rate=0.05, batch_size=8)
TUNING = Stage(2, learning_rate=1e-3, batch_size=8, unfreeze=1, schedule="constant", patience=None)


@pytest.fixture
def clf(make_clf):
    return make_clf(head_stage=HEAD, fine_tune_stage=TUNING, validation_fraction=0.2)


def fit(clf, images, *callbacks):
    return clf.set_params(callbacks=list(callbacks)).fit(*images)


class Notes(keras.callbacks.Callback):
    """Note what it is told, and what its model says of two images."""

    def __init__(self, X):
        super().__init__()
        self.X = X
        self.told, self.losses, self.said = [], [], []

    def on_train_begin(self, logs=None):
        self.told.append("begin")

    def on_epoch_begin(self, epoch, logs=None):
        self.told.append(epoch)

    def on_epoch_end(self, epoch, logs=None):
        self.losses.append(logs["val_loss"])
        self.said.append(self.model.predict(self.X[:2], verbose=0))

    def on_train_end(self, logs=None):
        self.told.append("end")


def test_one_training_of_the_whole_model_from_the_first_stage_to_the_last(clf, images):
    notes = Notes(images[0])
    fit(clf, images, notes)
    assert notes.told == ["begin", 0, 1, 2, 3, "end"]
    assert notes.losses == [row["val_loss"] for row in clf.history_]
    assert all(said.shape == (2, 3) for said in notes.said)
    assert not np.array_equal(notes.said[0], notes.said[1])
    best = int(np.argmin(notes.losses))
    np.testing.assert_allclose(notes.said[best], clf.predict_proba(images[0][:2]), atol=1e-5)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_training_ends_for_callbacks_too_when_it_is_broken_off(clf, images, error):
    def fail(epoch, logs):
        if epoch == 2:
            raise error("stop")

    notes = Notes(images[0])
    with pytest.raises(error, match="stop"):
        fit(clf, images, notes, keras.callbacks.LambdaCallback(on_epoch_end=fail))
    assert notes.told == ["begin", 0, 1, 2, "end"]
    assert notes.model is None


@pytest.mark.parametrize(
    "stage", [TUNING, Stage(2, unfreeze="all", layer_decay=0.5, batch_size=8, patience=None)]
)
def test_a_checkpoint_is_a_model_of_images(clf, images, tmp_path, stage):
    path = tmp_path / "epoch-{epoch}.keras"
    fit(clf.set_params(fine_tune_stage=stage), images, keras.callbacks.ModelCheckpoint(path))
    paths = sorted(tmp_path.iterdir())
    assert [path.name for path in paths] == [f"epoch-{number}.keras" for number in range(1, 5)]
    losses = []
    targets = np.eye(3)[np.unique(images[1], return_inverse=True)[1]]
    for path in paths:
        model = keras.models.load_model(path)
        assert model.input.dtype == "uint8"
        losses.append(model.evaluate(images[0], targets, verbose=0)[0])
        assert path.stat().st_size < 100_000
    assert losses[0] != losses[1]
    model.fit(images[0], targets, verbose=0)


def test_one_log_covers_all_stages(clf, images, tmp_path):
    fit(clf, images, keras.callbacks.CSVLogger(tmp_path / "log.csv"))
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    assert [float(row["loss"]) for row in rows] == [row["loss"] for row in clf.history_]


@pytest.mark.graphs
def test_tensorboard(clf, images, tmp_path):
    pytest.importorskip("tensorboard")
    board = keras.callbacks.TensorBoard(tmp_path, histogram_freq=1)
    clone(pickle.loads(pickle.dumps(fit(clf, images, board))))
    assert {path.name for path in tmp_path.iterdir()} == {"train", "validation"}


def test_the_rate_that_a_callback_sets_is_the_one_that_trains(clf, images):
    plateau = keras.callbacks.ReduceLROnPlateau(patience=1, min_delta=100, factor=0.1)
    fit(clf.set_params(head_stage=None), images, plateau)
    rates = [row["learning_rate"] for row in clf.history_]
    np.testing.assert_allclose(rates, [1e-3, 1e-3])
    fit(clf.set_params(fine_tune_stage__epochs=4), images, plateau)
    rates = [row["learning_rate"] for row in clf.history_]
    np.testing.assert_allclose(rates, [1e-3, 1e-3, 1e-4, 1e-5], rtol=1e-5)


def test_a_callback_ends_the_stage_that_runs(clf, images):
    stopping = keras.callbacks.EarlyStopping(patience=1, min_delta=100, restore_best_weights=True)
    clf.set_params(head_stage__epochs=9, head_stage__patience=None)
    fit(clf, images, stopping)
    assert [row["stage"] for row in clf.history_] == ["head"] * 2 + ["fine_tune"]
    assert stopping.best_weights is None


def test_terminate_on_nan(clf, images):
    fit(clf, images, keras.callbacks.TerminateOnNaN())
    assert len(clf.history_) == 4


def test_a_fit_leaves_callbacks_without_files_and_models(clf, images, tmp_path):
    notes = Notes(images[0])
    losses = notes.losses
    before = len(pickle.dumps(keras.callbacks.EarlyStopping()))
    stopping = keras.callbacks.EarlyStopping(patience=9, restore_best_weights=True)
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True)
    fit(clf, images, notes, keras.callbacks.CSVLogger(tmp_path / "log.csv"), stopping, checkpoint)
    assert notes.losses is losses
    assert len(losses) == 4
    assert len(pickle.dumps(stopping)) < 2 * before
    copied = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(copied.predict(images[0]), clf.predict(images[0]))
    assert len(copied.callbacks[0].losses) == 4
    clf.set_params(fine_tune_stage=None, head_stage__epochs=1)
    assert len(cross_val_score(clf, *images, cv=2, error_score="raise")) == 2
    clf.fit(*images)


@pytest.mark.parametrize(
    ("callbacks", "error", "message"),
    [
        ([3], TypeError, r"callbacks\[0\] must be a keras.callbacks.Callback; received 3"),
        (
            keras.callbacks.TerminateOnNaN(),
            TypeError,
            "must be a list of .*Terminate",
        ),
        ([keras.callbacks.BackupAndRestore("x")], ValueError, "BackupAndRestore.*warm_start=True"),
    ],
)
def test_the_list_is_checked_before_an_image_is_read(clf, callbacks, error, message):
    with pytest.raises(error, match=message):
        clf.set_params(callbacks=callbacks).fit(["nowhere.png"] * 4, [0, 1, 0, 1])
