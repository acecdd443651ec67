"""A stage's optimizer, with its schedule and its lower rates for lower blocks."""

from collections.abc import Sequence
from typing import Any

import keras

from tlclassify.training.stages import Stage

_OPTIMIZERS = {
    "adamw": keras.optimizers.AdamW,
    "adam": keras.optimizers.Adam,
    "sgd": keras.optimizers.SGD,
}
_WARMUP_FRACTION = 0.1


def build_optimizer(
    stage: Stage,
    variables: Sequence[keras.Variable],
    *,
    n_steps: int,
    rate_factors: Sequence[float] | None = None,
) -> keras.optimizers.Optimizer:
    """Return the optimizer of a resolved stage of `n_steps` for the variables that it trains."""
    rate: Any = stage.learning_rate
    if stage.schedule == "cosine":
        n_warmup = round(_WARMUP_FRACTION * n_steps)
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if n_warmup else stage.learning_rate,
            decay_steps=n_steps - n_warmup,
            warmup_target=stage.learning_rate if n_warmup else None,
            warmup_steps=n_warmup,
        )
    options: dict[str, Any] = {"momentum": 0.9} if stage.optimizer == "sgd" else {}
    if rate_factors is not None:
        decays = [stage.weight_decay * (len(variable.shape) > 1) for variable in variables]  # type: ignore[operator]
        # Adam with a decay of its own is AdamW.
        kind = _OPTIMIZERS["adam" if stage.optimizer == "adamw" else stage.optimizer]
        return _modify(kind, list(rate_factors), decays)(rate, **options)
    # AdamW demands a number; the others pay for a decay of 0.0 in every step.
    if stage.weight_decay or stage.optimizer == "adamw":
        options["weight_decay"] = stage.weight_decay
    optimizer = _modify(_OPTIMIZERS[stage.optimizer])(rate, **options)
    if stage.weight_decay:
        vectors = [variable for variable in variables if len(variable.shape) < 2]
        optimizer.exclude_from_weight_decay(var_list=vectors)
    return optimizer


def _modify(kind: Any, factors: Sequence[float] = (), decays: Sequence[float] = ()) -> Any:
    """Return a kind of optimizer that scales steps and weight decay variable by variable.

    Scaled gradients would change nothing with Adam, which divides each by its own size.
    """

    class Modified(kind):  # type: ignore[misc]
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            if factors:
                number = self._get_variable_index(variable)
                learning_rate = keras.ops.cast(learning_rate * factors[number], variable.dtype)
                if decays[number]:
                    self.assign_sub(variable, variable * (learning_rate * decays[number]))
            super().update_step(gradient, variable, learning_rate)

        def _all_reduce_sum_gradients(self, pairs: Any) -> Any:
            # TensorFlow never frees the graph in which it sums gradients over replicas.
            if self._distribution_strategy.num_replicas_in_sync == 1:
                return list(pairs)
            return super()._all_reduce_sum_gradients(pairs)

    # A file that a callback writes is read with Keras's own.
    Modified.__name__, Modified.__module__ = kind.__name__, "keras.optimizers"
    return Modified
