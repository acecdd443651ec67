"""A step of a stage's optimizer goes as far as its schedule and its variable's factor say."""

import keras
import numpy as np
import pytest

from tlclassify.training.loop import build_optimizer
from tlclassify.training.stages import Stage, resolve_stage

KINDS = ["adamw", "adam", "sgd"]
STOCK = {
    "adamw": keras.optimizers.AdamW,
    "adam": keras.optimizers.Adam,
    "sgd": keras.optimizers.SGD,
}


def make(variables=(), *, n_steps=100, rate_factors=None, **parameters):
    parameters = {"learning_rate": 0.1, "schedule": "constant", "unfreeze": 1, **parameters}
    stage = resolve_stage(Stage(**parameters), 10_000)
    return build_optimizer(stage, variables, n_steps=n_steps, rate_factors=rate_factors)


def new_variables():
    return [keras.Variable(np.full(shape, 2.0)) for shape in ((2, 3), (2, 3), (3,))]


def apply(optimizer, variables, n=1):
    """Take steps along gradients that are the same for equal shapes."""
    rng = np.random.default_rng(0)
    for _ in range(n):
        kernel, bias = rng.normal(size=(2, 3)), rng.normal(size=3)
        gradients = [kernel, kernel, bias]
        optimizer.apply([keras.ops.convert_to_tensor(g, "float32") for g in gradients], variables)
    return [np.array(variable) for variable in variables]


def rates(optimizer, steps):
    found = []
    for step in steps:
        optimizer.iterations.assign(step)
        found.append(float(keras.ops.convert_to_numpy(optimizer.learning_rate)))
    return found


def test_the_cosine_rises_for_a_tenth_of_the_steps_and_falls_to_nothing():
    optimizer = make(schedule="cosine", n_steps=200)
    found = rates(optimizer, [0, 5, 10, 20, 65, 110, 155, 200])
    falling = [0.1 * (1 + np.cos(np.pi * part)) / 2 for part in (0, 0.25, 0.5, 0.75, 1)]
    np.testing.assert_allclose(found, [0, 0.025, 0.05, *falling], atol=1e-7)
    everywhere = rates(optimizer, range(201))
    assert np.argmax(everywhere) == 20
    assert (np.diff(everywhere[:21]) > 0).all()
    assert (np.diff(everywhere[20:]) < 0).all()


@pytest.mark.parametrize("n_steps", [1, 4])
def test_a_few_steps_begin_at_the_full_rate(n_steps):
    optimizer = make(schedule="cosine", n_steps=n_steps)
    np.testing.assert_allclose(rates(optimizer, [0, n_steps]), [0.1, 0], atol=1e-8)


@pytest.mark.parametrize("schedule", ["constant", "plateau", "plateau_article"])
def test_other_schedules_are_left_to_callbacks(schedule):
    """Which set the rate, as a schedule of Keras's would not let them."""
    optimizer = make(schedule=schedule)
    np.testing.assert_allclose(rates(optimizer, [0, 50, 100]), 0.1, rtol=1e-6)
    optimizer.learning_rate = 0.02
    np.testing.assert_allclose(rates(optimizer, [0, 100]), 0.02, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 4])
def test_a_variable_moves_by_its_factor(kind, n):
    """As scaled gradients would not make it with Adam."""
    variables = new_variables()
    optimizer = make(variables, optimizer=kind, weight_decay=0.0, rate_factors=[1.0, 0.5, 0.25])
    full, half, bias = apply(optimizer, variables, n)
    assert np.abs(full - 2).max() > 0.05
    np.testing.assert_allclose(half - 2, (full - 2) / 2, atol=1e-5)
    plain = new_variables()
    *_, full_bias = apply(make(plain, optimizer=kind, weight_decay=0.0), plain, n)
    np.testing.assert_allclose(bias - 2, (full_bias - 2) / 4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_schedule_and_factors_go_together(kind):
    """At the top of the cosine after a warm-up of one step, which goes nowhere."""
    variables = new_variables()
    options = {"optimizer": kind, "weight_decay": 0.0, "schedule": "cosine", "n_steps": 10}
    optimizer = make(variables, **options, rate_factors=[1.0, 0.5, 0.0])
    for values in apply(optimizer, variables):
        np.testing.assert_array_equal(values, 2)
    full, half, bias = apply(optimizer, variables)
    assert (np.abs(full - 2) > 1e-3).all()
    np.testing.assert_allclose(half - 2, (full - 2) / 2, atol=1e-5)
    np.testing.assert_array_equal(bias, 2)


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factors", [None, [1.0, 1.0, 1.0]])
def test_factors_of_1_change_nothing_of_keras(kind, factors, weight_decay):
    variables, stock = new_variables(), new_variables()
    ours = make(variables, optimizer=kind, weight_decay=weight_decay, rate_factors=factors)
    options = {"momentum": 0.9} if kind == "sgd" else {}
    theirs = STOCK[kind](0.1, weight_decay=weight_decay, **options)
    theirs.exclude_from_weight_decay(var_list=stock[2:])
    for found, expected in zip(apply(ours, variables, 3), apply(theirs, stock, 3), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_weight_decay_takes_its_share_of_matrices_alone(kind):
    variables = new_variables()
    optimizer = make(variables, optimizer=kind, weight_decay=0.5)
    optimizer.apply([keras.ops.zeros(variable.shape) for variable in variables], variables)
    *matrices, vector = [np.array(variable) for variable in variables]
    np.testing.assert_allclose(matrices, 2 * (1 - 0.1 * 0.5), rtol=1e-6)
    np.testing.assert_array_equal(vector, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_weight_decay_is_scaled_by_the_factor_too(kind):
    variables = new_variables()
    optimizer = make(variables, optimizer=kind, weight_decay=0.5, rate_factors=[1.0, 0.5, 0.5])
    optimizer.apply([keras.ops.zeros(variable.shape) for variable in variables], variables)
    full, half, vector = (np.array(variable) for variable in variables)
    np.testing.assert_allclose(full, 2 * (1 - 0.1 * 0.5), rtol=1e-6)
    np.testing.assert_allclose(half, 2 * (1 - 0.05 * 0.5), rtol=1e-6)
    np.testing.assert_array_equal(vector, 2)


def test_adamw_decays_nothing_where_told_so():
    variables = new_variables()
    optimizer = make(variables, weight_decay=0.0)
    optimizer.apply([keras.ops.zeros(variable.shape) for variable in variables], variables)
    np.testing.assert_array_equal(np.array(variables[0]), 2)
