import keras
import numpy as np
import pytest

from tlclassify._checks import parameters
from tlclassify.training.loop import Examples, Prepared, StoredInputs, run_stage
from tlclassify.training.stages import Stage, resolve_stage


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    X = rng.normal(size=(60, 4)).astype(np.float32)
    X[:, 0] += 3 * y
    return X, y


def linear():
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(inputs))


def make(X, y, rows, seed=None, weight=None):
    rows = np.asarray(rows)
    weight = None if weight is None else weight[rows]
    options = {"n_classes": 3, "batch_size": 16, "seed": seed, "sample_weight": weight}
    return Examples(StoredInputs([X[rows]]), y[rows], **options)


def run(model, stage, *, training, validation=None, **options):
    history = []
    stage = resolve_stage(stage, n_images=60)
    run_stage(Prepared(model, stage, training, validation), history=history, **options)
    return history


def test_history_has_a_row_an_epoch(data):
    model = linear()
    history = run(
        model,
        Stage(epochs=3, learning_rate=0.1, patience=None),
        name="head",
        training=make(*data, range(48), seed=0),
        validation=make(*data, range(48, 60)),
    )
    assert [(row["stage"], row["epoch"]) for row in history] == [("head", n) for n in (1, 2, 3)]
    assert set(history[0]) == {
        *("stage", "epoch", "loss", "accuracy", "val_loss", "val_accuracy"),
        *("learning_rate", "seconds"),
    }
    assert history[0]["learning_rate"] == pytest.approx(0.1)
    assert history[-1]["loss"] < history[0]["loss"]


def test_the_best_epoch_is_kept(data):
    """A learning rate that leaps about: the weights kept are those of the lowest val_loss."""
    model = linear()
    validation = make(*data, range(48, 60))
    history = run(
        model,
        Stage(epochs=12, learning_rate=2.0, schedule="constant", patience=None),
        name="head",
        training=make(*data, range(48), seed=0),
        validation=validation,
    )
    losses = [row["val_loss"] for row in history]
    assert min(losses) < losses[-1]
    kept = model.evaluate(validation, verbose=0, return_dict=True)["loss"]
    assert kept == pytest.approx(min(losses), rel=1e-4)


def test_patience_ends_a_stage(data):
    history = run(
        linear(),
        Stage(epochs=50, learning_rate=5.0, patience=2),
        name="head",
        training=make(*data, range(48), seed=0),
        validation=make(*data, range(48, 60)),
    )
    assert len(history) < 50
    best = int(np.argmin([row["val_loss"] for row in history]))
    assert len(history) == best + 1 + 2


@pytest.mark.parametrize(
    ("schedule", "fifths"), [("plateau", [0, 0, 0, 1, 1, 2, 2, 2, 2]), ("constant", [0] * 9)]
)
def test_the_learning_rate_falls_on_a_plateau(data, schedule, fifths):
    """Labels of the validation images turned round: its loss is lowest in the first epoch."""
    X, y = data
    turned = make(X, np.where(np.arange(60) < 48, y, 2 - y), range(48, 60))
    model = linear()
    model.set_weights([np.zeros((4, 3)), np.zeros(3)])
    stage = Stage(9, learning_rate=0.1, schedule=schedule, patience=None)
    training = make(X, y, range(48), seed=0)
    history = run(model, stage, name="x", training=training, validation=turned)
    rates = [row["learning_rate"] for row in history]
    np.testing.assert_allclose(rates, [0.1 / 5**fifth for fifth in fifths], rtol=1e-5)


def test_the_articles_plateau_cuts_once_to_its_floor(data):
    """The learning rate is too low to change a prediction, so that no epoch is better."""
    stage = Stage(6, learning_rate=1e-3, schedule="plateau_article", optimizer="sgd", patience=None)
    model = linear()
    model.set_weights([np.eye(4, 3), np.array([9.0, 0, 0])])
    history = run(model, stage, name="x", training=make(*data, range(60), seed=0))
    rates = [row["learning_rate"] for row in history]
    np.testing.assert_allclose(rates, [1e-3] * 4 + [1e-5] * 2, rtol=1e-5)


def test_without_validation_the_training_loss_decides(data):
    history = run(linear(), Stage(epochs=2), name="head", training=make(*data, range(60)))
    assert "val_loss" not in history[0]


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_every_optimizer_learns(data, optimizer):
    stage = Stage(epochs=4, learning_rate=0.05, optimizer=optimizer, weight_decay=1e-3)
    history = run(linear(), stage, name="x", training=make(*data, range(60), seed=0))
    assert history[-1]["loss"] < history[0]["loss"]


@pytest.mark.parametrize(
    ("optimizer", "weight_decay", "share"),
    [
        ("adamw", None, 1.0),
        ("adamw", 0.0, 0.0),
        ("adam", None, 0.0),
        ("sgd", None, 0.0),
        ("adam", 3.0, 3.0),
        ("sgd", 0.5, 0.5),
    ],
)
def test_weight_decay_takes_its_share_of_kernels_alone(data, optimizer, weight_decay, share):
    """No image has a weight, so that nothing but the decay moves anything."""
    model = linear()
    model.set_weights([np.ones((4, 3)), np.ones(3)])
    stage = Stage(1, learning_rate=0.01, optimizer=optimizer, weight_decay=weight_decay)
    training = make(*data, range(16), weight=np.zeros(60, np.float32))
    run(model, stage, name="x", training=training)
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(kernel, 1 - 0.01 * share, rtol=1e-6)
    np.testing.assert_array_equal(bias, 1)


def test_a_weight_of_zero_hides_an_image(data):
    X, y = data
    weight = np.ones(60, np.float32)
    weight[::2] = 0
    spoiled = y.copy()
    spoiled[::2] = 0

    def trained(targets):
        model = linear()
        model.set_weights([np.zeros((4, 3)), np.zeros(3)])
        run(
            model,
            Stage(epochs=2, optimizer="sgd"),
            name="x",
            training=make(X, targets, range(60), seed=0, weight=weight),
        )
        return model.get_weights()[0]

    np.testing.assert_allclose(trained(y), trained(spoiled), atol=1e-7)


def test_the_order_is_new_every_epoch_and_decided_by_the_seed(data):
    first, second = make(*data, range(60), seed=3), make(*data, range(60), seed=3)
    before = first.rows.copy()
    np.testing.assert_array_equal(first.rows, second.rows)
    first.on_epoch_end()
    assert not np.array_equal(first.rows, before)
    assert sorted(first.rows) == sorted(before) == list(range(60))
    assert sum(len(first[number][0]) for number in range(len(first))) == 60


class Spoil(keras.callbacks.Callback):
    """Make the weights infinite at the start of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.spoilt = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.spoilt:
            self.model.set_weights([np.full_like(w, np.inf) for w in self.model.get_weights()])


def test_a_loss_that_is_not_finite_ends_the_stage_with_the_best_epoch(data):
    model = linear()
    with pytest.warns(UserWarning, match="was not finite.*Lower its learning_rate"):
        history = run(
            model,
            Stage(epochs=5),
            name="x",
            training=make(*data, range(60), seed=0),
            callbacks=[Spoil(2)],
        )
    assert len(history) == 3
    assert all(np.isfinite(weights).all() for weights in model.get_weights())


@pytest.mark.parametrize("trained_before", [False, True])
def test_weights_that_an_epochs_last_step_broke_are_not_kept(data, trained_before):
    """Its loss was measured before that step, and is finite."""
    model = linear()
    before = model.get_weights()
    stage = Stage(epochs=3, learning_rate=1e38, optimizer="sgd")
    training = make(*data, range(16), weight=np.full(60, 1e3, np.float32))
    expected = pytest.warns(UserWarning, match="'x' ended in epoch 1.*the best weights before")
    if not trained_before:
        expected = pytest.raises(FloatingPointError, match="'x' diverged in its first epoch")
    with expected:
        run(model, stage, name="x", training=training, trained_before=trained_before)
    for kept, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(kept, value)


@pytest.mark.graphs
@pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch takes one step at a time")
@pytest.mark.parametrize("broken", [0, 12, 24])
def test_steps_taken_at_once_end_where_the_loss_is_not_finite(data, broken):
    """In the epoch in which it happens, of 25 steps each, and no epoch later."""
    X, y = np.tile(data[0], (10, 1))[:400], np.tile(data[1], 10)[:400]
    X[16 * broken] = np.nan
    history = []
    prepared = Prepared(
        linear(),
        resolve_stage(Stage(epochs=3, patience=None), 400),
        Examples(StoredInputs([X]), y, n_classes=3, batch_size=16),
        n_steps=10,
    )
    with pytest.raises(FloatingPointError, match="diverged in its first epoch"):
        run_stage(prepared, name="x", history=history)
    assert len(history) == 1


def test_a_loss_that_is_never_finite_is_an_error(data):
    with pytest.raises(FloatingPointError, match="'x' diverged in its first epoch"):
        run(
            linear(),
            Stage(epochs=5),
            name="x",
            training=make(*data, range(60), seed=0),
            callbacks=[Spoil(0)],
        )


def test_callbacks_are_told(data):
    class Counter(keras.callbacks.Callback):
        n = 0

        def on_epoch_end(self, epoch, logs=None):
            self.n += 1

    counter = Counter()
    run(
        linear(),
        Stage(epochs=3, patience=None),
        name="x",
        training=make(*data, range(60)),
        callbacks=[counter],
    )
    assert counter.n == 3


def test_progress_is_silent_unless_asked(data, capsys, monkeypatch):
    monkeypatch.setattr(parameters, "_PROGRESS_DELAY_SECONDS", 0)
    model = linear()
    run(model, Stage(epochs=1), name="x", training=make(*data, range(60)))
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    run(model, Stage(epochs=1), name="x", training=make(*data, range(60)), verbose=1)
    assert "training: x" in capsys.readouterr().err
