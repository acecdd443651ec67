"""A trial of fine-tuning where nothing is held out, which else would hide that it makes worse."""

import math
import warnings
from dataclasses import replace

import keras
import numpy as np
from numpy.typing import NDArray

from tlclassify.activations.run import run_batches
from tlclassify.inputs.splits import split_rows
from tlclassify.training.fit import Fit, Labelled

_HELD_OUT = 0.2
_SMALLEST = 1e-7


def drop_what_fails(fit: Fit) -> None:
    """Take a fit's fine-tuning out, with a warning, if it fails in a trial on some images."""
    begins_with_head = fit.is_solved or "head" in fit.stages
    if fit.validation or not begins_with_head:
        return
    targets, groups = fit.training.targets, fit.training.groups
    try:
        kept, held_out = split_rows(targets, fit.classes, _HELD_OUT, fit.seed, groups=groups)
    except ValueError:  # of a class there is one image, or too few groups
        return
    judged = fit.training.take(held_out)
    trial = replace(fit, training=fit.training.take(kept), callbacks=(), history=[*fit.history])
    trial.at_lowest = [part.take(kept) for part in fit.store(fit.lowest)]
    models = [model for model in (fit.network, fit.top) if model is not None]
    weights = [model.get_weights() for model in models]
    try:
        with warnings.catch_warnings():
            # The fit itself will say so.
            warnings.filterwarnings("ignore", message="stage .* ended", category=UserWarning)
            trial.run(until="fine_tune")
            whole = trial.build_whole()
            before = _losses(whole, judged, fit.running.batch_size)
            trial.train("fine_tune", trial.prepare("fine_tune"))
            after = _losses(whole, judged, fit.running.batch_size)
    finally:
        for model, values in zip(models, weights, strict=True):
            model.set_weights(values)
    # It fails where it makes the log loss higher by more than the standard error of that.
    change = after - before
    if change.mean() <= change.std(ddof=1) / math.sqrt(len(change)):
        return
    fit.stages = {name: stage for name, stage in fit.stages.items() if name != "fine_tune"}
    warnings.warn(
        f"fine_tune_stage is left out, because it makes worse: in a trial, {len(change)} images "
        f"that were held out had a log loss of {before.mean():.2f} before it and "
        f"{after.mean():.2f} after it. Lower its learning_rate or unfreeze less; or pass "
        "validation_data, and its best epoch is kept.",
        stacklevel=3,
    )


def _losses(network: keras.Model, part: Labelled, batch_size: int) -> NDArray[np.float64]:
    """Return the log loss of each image, by the network as it stands."""
    batches = run_batches(network, part.images, batch_size=batch_size)
    of_true = np.concatenate(list(batches))[np.arange(len(part.targets)), part.targets]
    return -np.log(np.maximum(of_true.astype(np.float64), _SMALLEST))
