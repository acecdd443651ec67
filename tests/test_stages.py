"""Stages by name, what their parameters may be, and what None stands for."""

from contextlib import suppress

import keras
import numpy as np
import pytest
from sklearn.base import clone

from tlclassify.training.loop import Examples, Prepared, StoredInputs, run_stage
from tlclassify.training.stages import Stage, get_stage, resolve_stage


def test_presets_are_valid_and_copies():
    for name in ("top", "all"):
        preset = get_stage(name, name="fine_tune_stage")
        assert get_stage(preset, name="fine_tune_stage") is preset
        preset.epochs = 1
        assert get_stage(name, name="fine_tune_stage").epochs is None


def test_top_is_half_of_the_blocks_and_all_the_whole_backbone():
    assert get_stage("top", name="x").unfreeze == 0.5
    assert get_stage("all", name="x").unfreeze == "all"


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"fine_tune_stage .* 'top', 'all'.*Did you mean 'top'\?"):
        get_stage("tops", name="fine_tune_stage")


@pytest.mark.parametrize("stage", [None, 3, {"epochs": 2}, Stage])
def test_something_else_is_no_stage(stage):
    with pytest.raises(TypeError, match="head_stage must be a Stage, 'auto' or 'exact' or None"):
        get_stage(stage, name="head_stage")
    with pytest.raises(
        TypeError, match="fine_tune_stage must be a Stage, 'top' or 'all' or None; rec"
    ):
        get_stage(stage, name="fine_tune_stage")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"layer_decay": 0}, r"s__layer_decay must be a number in \(0, 1\]; received 0"),
        ({"layer_decay": 1.1}, r"s__layer_decay .* received 1\.1"),
        ({"layer_decay": None}, r"s__layer_decay .* received None"),
        ({"learning_rate": 0}, r"s__learning_rate must be a number in \(0, inf\]"),
        ({"batch_size": 2.5}, "s__batch_size must be an integer"),
        ({"optimizer": "adm"}, "s__optimizer must be one of.*mean 'adam'"),
        ({"patience": 0, "weight_decay": -1}, "2 parameters are not valid"),
        ({"label_smoothing": 1}, r"s__label_smoothing must be a number in \[0, 1\); received 1"),
        ({"label_smoothing": -0.1}, r"s__label_smoothing .* received -0\.1"),
        ({"start_share": 1}, r"s__start_share must be a number in \[0, 1\) or None; received 1"),
        ({"batch_norm": "freeze"}, r"s__batch_norm must be one of 'frozen', 'train'.*'frozen'\?"),
        ({"schedule": "cosin"}, r"s__schedule must be one of 'plateau'.*mean 'cosine'\?"),
        ({"epochs": 0}, "s__epochs must be an integer .* received 0"),
        ({"epochs": True}, "s__epochs must be an integer .* received True"),
        ({"learning_rate": np.nan}, "s__learning_rate must be a number .* received nan"),
        ({"unfreeze": 2.5, "layer_decay": 2}, r"2 parameters(.|\n)*s__layer(.|\n)*s__unfreeze"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        get_stage(Stage(**parameters), name="s")


@pytest.mark.parametrize("unfreeze", [-1, -0.5, 1.5, 2.0, np.nan, True, None, [1], np.bool_(True)])
def test_what_is_no_part_of_a_network(unfreeze):
    with pytest.raises(ValueError, match="s__unfreeze must be .*; received"):
        get_stage(Stage(unfreeze=unfreeze), name="s")


@pytest.mark.parametrize(
    "unfreeze", [0, 1, 99, 0.0, 0.3, "all", "conv5", np.int64(2), np.float32(0.5)]
)
def test_what_is_a_part_of_a_network(unfreeze):
    stage = Stage(unfreeze=unfreeze)
    assert get_stage(stage, name="s") is stage


def test_the_limits_themselves_are_allowed():
    stage = Stage(1, layer_decay=1, label_smoothing=0, weight_decay=0, patience=None)
    assert get_stage(stage, name="s") is stage


@pytest.mark.parametrize(
    ("stage", "rate", "batch_size", "weight_decay"),
    [
        (Stage(), 2e-3, 512, 1.0),
        (Stage(unfreeze=0.0), 2e-3, 512, 1.0),
        (Stage(unfreeze=1), 3e-4, 64, 0.05),
        (Stage(unfreeze="all"), 3e-4, 64, 0.05),
        (Stage(unfreeze="conv5"), 3e-4, 64, 0.05),
        (Stage(optimizer="sgd"), 2e-3, 512, 0.0),
        (Stage(optimizer="adam", unfreeze=2), 3e-4, 64, 0.0),
        (Stage(optimizer="sgd", weight_decay=0.1), 2e-3, 512, 0.1),
        (Stage(learning_rate=1, batch_size=2, weight_decay=0.0), 1, 2, 0.0),
    ],
)
def test_none_stands_for_a_number(stage, rate, batch_size, weight_decay):
    before = stage.get_params()
    resolved = resolve_stage(stage, 10_000)
    chosen = {"learning_rate": rate, "batch_size": batch_size, "weight_decay": weight_decay}
    assert resolved.get_params() == before | chosen
    assert stage.get_params() == before
    assert resolve_stage(resolved, 10).get_params() == resolved.get_params()


@pytest.mark.parametrize(
    ("unfreeze", "n_images", "share"),
    [(0, 100, 0.0), (1, 2_000, 0.5), ("all", 100, 0.5), (1, 2_001, 0.0)],
)
def test_few_images_leave_half_of_the_weights_before(unfreeze, n_images, share):
    stage = Stage(unfreeze=unfreeze, start_share=None)
    assert resolve_stage(stage, n_images).start_share == share
    assert resolve_stage(Stage(unfreeze=unfreeze), n_images).start_share == 0.0


@pytest.mark.parametrize(
    ("n_images", "epochs"), [(3, 30), (384, 30), (500, 23), (1_000, 12), (50_000, 12)]
)
def test_presets_pass_over_few_images_more_often(n_images, epochs):
    stage = get_stage("top", name="fine_tune_stage")
    assert resolve_stage(stage, n_images).epochs == epochs
    assert resolve_stage(stage.set_params(epochs=3), n_images).epochs == 3


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_label_smoothing_gives_to_all_classes_alike(smoothing):
    """The loss of a model that does not move, over all images."""
    probabilities = np.array([0.7, 0.2, 0.1], np.float32)
    inputs = keras.Input((3,))
    scale = keras.layers.Dense(3, use_bias=False, activation="softmax")
    model = keras.Model(inputs, scale(inputs))
    scale.set_weights([np.eye(3)])
    X, y = np.tile(np.log(probabilities), (6, 1)), np.arange(6) % 3
    history = []
    stage = Stage(1, learning_rate=1e-12, optimizer="sgd")
    options = {"n_classes": 3, "batch_size": 6, "label_smoothing": smoothing}
    training = Examples(StoredInputs([X]), y, **options)
    run_stage(Prepared(model, stage, training), name="head", history=history)
    targets = (1 - smoothing) * np.eye(3)[y] + smoothing / 3
    losses = -(targets * np.log(probabilities)).sum(axis=1)
    assert history[0]["loss"] == pytest.approx(losses.mean(), rel=1e-5)


def overshoot(**options):
    """Go so far beyond what is best that only half way is better than before."""
    inputs = keras.Input((1,))
    dense = keras.layers.Dense(2, use_bias=False, activation="softmax", kernel_initializer="zeros")
    model = keras.Model(inputs, dense(inputs))
    X, y = np.ones((4, 1), np.float32), np.array([0, 0, 0, 1])
    examples = [Examples(StoredInputs([X]), y, n_classes=2, batch_size=4) for _ in range(2)]
    stage = Stage(1, learning_rate=6.2, optimizer="sgd", schedule="constant", start_share=0.5)
    prepared = Prepared(model, stage, *examples)
    with suppress(KeyboardInterrupt):
        run_stage(prepared, name="x", history=[], trained_before=True, **options)
    first, second = dense.get_weights()[0][0]
    return float(first - second)


def test_half_way_is_tried_where_no_epoch_is_better_than_before():
    assert overshoot() == pytest.approx(1.55, abs=1e-3)


def test_of_an_interrupted_stage_validation_keeps_nothing_untried():
    def interrupt(epoch, logs):
        raise KeyboardInterrupt

    callback = keras.callbacks.LambdaCallback(on_epoch_end=interrupt)
    assert overshoot(callbacks=[callback]) == 0.0


def test_clone_keeps_every_parameter():
    stage = Stage(3, learning_rate=0.1, batch_size=5, optimizer="sgd", weight_decay=0.2, patience=1)
    stage.set_params(unfreeze="conv5", layer_decay=0.5, batch_norm="train", label_smoothing=0.1)
    assert clone(stage).get_params() == stage.get_params()
