"""The estimator: a head on a backbone, trained in stages on stored activations."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.metrics import accuracy_score
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from tlclassify._checks.images import STRETCH
from tlclassify._checks.parameters import check_labels, show_progress
from tlclassify.activations.run import PART_ROWS, Pass, Running, beside
from tlclassify.engines.runners import KERAS, Runner, reopen_runner, run_batches
from tlclassify.evaluation.text import History
from tlclassify.inputs.augmentation import Augmentation, get_augmentation
from tlclassify.inputs.images import reopen_images
from tlclassify.networks.blueprints import rebuild_network, reduce_network
from tlclassify.networks.cuts import parts_of
from tlclassify.networks.heads import AUTO, Head, HeadBuilder, get_head
from tlclassify.networks.rows import Backbone
from tlclassify.networks.steps import build_classifier
from tlclassify.training.fit import Fit, drop_what_fails
from tlclassify.training.preparation import prepare_fit
from tlclassify.training.stages import Stage, get_stage

_REBUILT = {"model_", "backbone_", "head_", "_runners"}
# So many are run sooner than it is found out what the network computes.
_FEW_IMAGES = 16
_PRESETS: dict[str, Callable[[str], Any]] = {
    "head": get_head,
    "augmentation": get_augmentation,
    "head_stage": lambda name: Stage() if name == AUTO else name,
    "fine_tune_stage": partial(get_stage, name="fine_tune_stage"),
}


@dataclass(eq=False, repr=False)
class TransferClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classify images with a head trained on a pretrained backbone.

    Parameters
    ----------
    backbone : str, Backbone, keras.Model, callable or a list of them, default "mobilenet"
        A name that `list_backbones` shows, a row, or a network of one's own. Of several, features
        stand side by side; no stage trains them, and `grad_cam` does not explain them.
    weights : {"pretrained"}, path or None, default "pretrained"
        The backbone's published weights or a model's own, a file, or random ones.
    image_size : int, optional
        Pixels a side at which the backbone sees the images. None: the row's policy, for ImageNet
        half as much again as the images have, at least 128 and at most 224.
    aspect : {"stretch", "pad", "crop", "soft"}, default "stretch"
        How a picture that is not square becomes one: squeezed; with bars of the backbone's mean
        colour; its middle alone; or between these, a square of the picture's own area.
    head : Head, str, callable or keras.layers.Layer, default Head()
        As parameters; a preset's name; or a function (feature_map, n_classes) -> probabilities of
        Keras tensors, or a layer from one to the other.
    augmentation : Augmentation, str, layers of Keras or None, default None
        How training images, and no others, are changed. Presets: "flip", "article", "strong".
        Layers only where a stage trains the whole network.
    head_stage : {"auto", "exact"}, Stage or None, default "auto"
        "exact": a linear head is solved, on all images, as a logistic regression on stored
        features; a `Stage` trains any head by epochs; "auto": "exact" for linear heads, else
        `Stage()`. None: `fine_tune_stage` trains it too, from random weights or, with
        `warm_start`, as it stands.
    fine_tune_stage : Stage, str or None, default None
        What is trained after that. Presets: "top", the upper half of the backbone's blocks, and
        "all", the whole of it.
    validation_fraction : float in [0, 1), optional
        Share of the images, at least one a class, that measures each epoch; 0: none, and the
        training loss decides. None: 0.1 where there are epochs and 2,000 images or more, else 0.
    predict_mirrored : bool, default False
        Whether probabilities are the mean for an image and its mirror image, in twice the time.
        Never for what differs from that, such as text. Then `cache_dir` is not read.
    class_weight : None, "balanced" or dict, default None
        Weights by label; "balanced" weighs classes against their frequency.
    batch_size : int, default 64
        Images run through the network at once.
    cache_dir : path, optional
        Where fits keep activations for other heads, folds, grid points and sessions. Predictions
        read them and add none.
    engine : {"keras", "auto", "openvino", "openvino_bfloat16", "onnxruntime"}, default "keras"
        What runs frozen parts and predictions; "auto": OpenVINO where it is installed, else ONNX
        Runtime, else Keras. Numbers differ by roundings.
    callbacks : sequence of keras.callbacks.Callback, optional
        Told of all stages as of one training, of the model from raw images to probabilities.
    warm_start : bool, default False
        Whether `fit` goes on from the last fit's backbone, head and history, and does not look at
        the parameters that describe those.
    random_state : int, RandomState or None
        Seed of the split, the head's weights, the order of images, views and dropout.
    verbose : int, default 1
        1 shows progress bars for work of more than a second; 0 is silent.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted; columns of `predict_proba` are in this order.
    model_ : keras.Model
        The whole: raw uint8 RGB of shape (n, height, width, 3) to probabilities.
    backbone_, head_ : keras.Model
        Its two parts: raw uint8 RGB to features of shape (n, n_features_), and from these to
        probabilities, of images as they are and before any temperature.
    history_ : list of dict
        One row an epoch of any stage: stage, epoch, loss, accuracy, val_loss, val_accuracy,
        learning_rate, seconds. A head that was solved has one row, with C for a learning rate.
    image_shape_ : (height, width, 3)
        Of arrays in later calls; files are brought to it.
    n_features_ : int
        Width of the features that the head reads.
    pixel_range_ : {255, 1}
        The value of white in floating-point pixels.
    temperature_ : float
        What the logarithms of the probabilities are divided by: 1, unless `calibrate` made it.
    image_marks_ : ndarray of uint64
        Hashes of the images trained on, by which `evaluate` warns of those among its own.
    blueprint_ : record
        What the networks were built from, the `Head` that so many images got among it, and how many
        images of each class they have seen.

    Examples
    --------
    >>> from tlclassify import TransferClassifier
    >>> from tlclassify.datasets import make_shapes
    >>> X, y = make_shapes(120, random_state=0)
    >>> clf = TransferClassifier("mobilenet_micro", random_state=0).fit(X[:90], y[:90])
    >>> clf.predict_proba(X[90:]).shape
    (30, 3)
    >>> clf.score(X[90:], y[90:]) > 0.5
    True
    """

    backbone: str | Backbone | keras.Model | Sequence[Any] = "mobilenet"
    _: KW_ONLY
    weights: str | Path | None = "pretrained"
    image_size: int | None = None
    aspect: str = STRETCH
    head: str | Head | HeadBuilder | keras.layers.Layer = Head()
    augmentation: str | Augmentation | keras.layers.Layer | Sequence[Any] | None = None
    head_stage: str | Stage | None = "auto"
    fine_tune_stage: str | Stage | None = None
    validation_fraction: float | None = None
    predict_mirrored: bool = False
    class_weight: str | Mapping[Any, float] | None = None
    batch_size: int = 64
    cache_dir: str | Path | None = None
    engine: str = KERAS
    callbacks: Sequence[keras.callbacks.Callback] | None = None
    warm_start: bool = False
    random_state: int | np.random.RandomState | None = None
    verbose: int = 1

    def set_params(self, **params: Any) -> "TransferClassifier":
        """Set parameters, ``head__dropout`` and the like too, in a copy of what is reached into."""
        own = self.get_params(deep=False)
        # Names that there are none of are left to scikit-learn, which lists those that there are.
        for name in {key.partition("__")[0] for key in params if "__" in key} & own.keys():
            part = params.pop(name, own[name])
            if isinstance(part, str) and name in _PRESETS:
                part = _PRESETS[name](part)
            if not isinstance(part, BaseEstimator):
                nested = next(key for key in params if key.startswith(f"{name}__"))
                raise ValueError(  # noqa: TRY004 - as for names that there are none of
                    f"{name} must be an object with parameters, or a preset's name, where {nested} "
                    f"is set; received {part!r}."
                )
            setattr(self, name, clone(part))
        super().set_params(**params)
        return self

    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,  # so that what is wrong with `X` alone is told first
        sample_weight: ArrayLike | None = None,
        validation_data: tuple[Any, ArrayLike] | None = None,
        groups: ArrayLike | None = None,
    ) -> "TransferClassifier":
        """Train the head, and the backbone's upper part where a stage says so.

        Interrupted by Ctrl-C after the first epoch, it leaves a classifier of the best epoch
        so far, and raises `KeyboardInterrupt` on.

        Parameters
        ----------
        X : array-like
            Pixels of shape (n, h, w), (n, h, w, 1) or (n, h, w, 3), uint8 in [0, 255] or
            floating point in [0, 1] or [0, 255]; or n file paths. Never changed.
        y : array-like of shape (n,)
            Labels: strings or integers.
        sample_weight : array-like of shape (n,), optional
            Weights of the images in training, zero or more.
        validation_data : (X, y), optional
            Images and labels that measure each epoch, instead of a share of `X`.
        groups : array-like of shape (n,), optional
            The patient, camera or plant of each image: all of one are trained on or held out.

        Raises
        ------
        ValueError, TypeError
            If a parameter, the images, labels or groups are not as above, or too few.
        OSError
            If image files cannot be read, all of them named, or activations cannot be stored.
        """
        fit = prepare_fit(self, X, y, sample_weight, groups=groups, validation=validation_data)
        if self.fine_tune_stage is not None:
            drop_what_fails(fit)
        n_before = len(fit.history)
        try:
            fit.run()
        except BaseException as error:
            # A warm start has changed the last fit's network in place: there is no way back.
            worth_keeping = n_before > 0 or isinstance(error, KeyboardInterrupt)
            if worth_keeping and len(fit.history) > n_before:
                self._keep(fit)
            raise
        self._keep(fit)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Return class probabilities.

        Parameters
        ----------
        X : array-like
            Images as for `fit`, of the same shape and range.

        Returns
        -------
        ndarray of shape (n, n_classes), float32
            Columns in the order of `classes_`; rows sum to 1.
        """
        check_is_fitted(self, "model_")
        source = reopen_images(X, self.image_shape_, self.pixel_range_, self.blueprint_.framing)
        # What is stored is read, and nothing is added to it. Nothing is stored of a fine-tuned
        # backbone, nor of mirror images.
        is_plain = not self.blueprint_.is_mirrored
        is_plain &= all(row["stage"] == "head" for row in self.history_)
        is_stored = self.cache_dir is not None and is_plain and len(source) > _FEW_IMAGES
        networks = parts_of(self.backbone_) if is_stored else [self.model_]
        runners = [reopen_runner(self, network) for network in networks]
        if not is_stored:
            with show_progress(
                len(source), "predicting", unit="image", verbose=self.verbose
            ) as bar:
                batches = run_batches(runners[0], source, batch_size=self.batch_size, progress=bar)
                return np.concatenate(list(batches))
        above = keras.Model(self.backbone_.output, self.model_.output)
        running, probabilities = Running(self.batch_size, self.cache_dir), []
        for start in range(0, len(source), PART_ROWS):
            part = source.take(np.arange(start, min(start + PART_ROWS, len(source))))
            passes = [Pass(runner, part, running).run(write=False) for runner in runners]
            features = beside([np.concatenate(list(outputs)) for outputs in passes])
            # Called as it is: `predict` would compile it anew every time.
            probabilities.append(keras.ops.convert_to_numpy(above(features)))
        return np.concatenate(probabilities)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable label of each image of `predict_proba`, shape (n,)."""
        # Before there are classes, this says that it is not fitted.
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]  # type: ignore[no-any-return]

    def score(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the accuracy on images and labels as of `fit`, weighted if weights are given."""
        predicted = self.predict(X)
        labels = check_labels(y, n_samples=len(predicted))
        return float(accuracy_score(labels, predicted, sample_weight=sample_weight))

    def _keep(self, fit: Fit) -> None:
        # Only after training, so that a new fit that fails leaves the last one whole.
        source = fit.training.images
        goes_on = fit.network is getattr(self, "backbone_", None)
        self.image_marks_: Any = self.image_marks_ if goes_on else np.empty(0, np.uint64)
        with suppress(OSError):  # of files that are gone by now
            self.image_marks_ = np.union1d(self.image_marks_, source.marks())
        self.model_, self.backbone_, self.head_ = fit.build_whole(), fit.network, fit.top
        self.blueprint_, self.classes_ = fit.blueprint, fit.classes
        self.history_ = History(fit.history)
        self.image_shape_, self.pixel_range_ = (*source.shape, 3), source.pixel_range
        self.n_features_, self.temperature_ = int(fit.network.output.shape[-1]), 1.0
        # An engine would keep the last fit's networks alive.
        self._runners: dict[keras.Model, Runner] = {}

    def __copy__(self) -> "TransferClassifier":
        """Return a copy that shares the networks."""
        shallow = type(self).__new__(type(self))
        # With engines of its own, which end with it.
        shallow.__dict__.update(self.__dict__ | {"_runners": {}})
        return shallow

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle keeps: the two networks, in Keras's own way, and no engine."""
        state = {key: x for key, x in super().__getstate__().items() if key not in _REBUILT}
        if hasattr(self, "model_"):
            state["_networks"] = [reduce_network(part) for part in (self.backbone_, self.head_)]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Build the networks again."""
        super().__setstate__({key: x for key, x in state.items() if key != "_networks"})
        if "_networks" in state:
            parts = self.backbone_, self.head_ = [*map(rebuild_network, state["_networks"])]
            mirrored = self.blueprint_.is_mirrored
            self.model_ = build_classifier(*parts, temperature=self.temperature_, mirrored=mirrored)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        return tags


def check_fitted(
    clf: Any, *, advice: str = "Pass the last step of a pipeline, or best_estimator_ of a search."
) -> None:
    """Check that `clf` is a fitted classifier; `advice` is for whoever passed something else."""
    if not isinstance(clf, TransferClassifier):
        kind = type(clf).__name__
        raise TypeError(f"clf must be a TransferClassifier; received {kind}. {advice}")
    check_is_fitted(clf, "model_")
