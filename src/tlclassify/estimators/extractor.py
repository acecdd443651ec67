"""Images to embeddings: the frozen part of a classifier, alone and as a transformer."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags

from tlclassify._checks.images import STRETCH
from tlclassify.activations.run import Pass, Running, beside, run_once
from tlclassify.engines.runners import KERAS, Runner, reopen_runner
from tlclassify.estimators.classifier import TransferClassifier, check_fitted
from tlclassify.inputs.images import reopen_images
from tlclassify.inputs.splits import draw_seeds
from tlclassify.networks import backbones
from tlclassify.networks.blueprints import (
    Blueprint,
    as_in_the_fit,
    build_frozen,
    rebuild_network,
    reduce_network,
)
from tlclassify.networks.cuts import parts_of
from tlclassify.networks.heads import POOLINGS, Head
from tlclassify.networks.rows import Backbone
from tlclassify.training.preparation import check_shared


@dataclass(eq=False, repr=False)
class FeatureExtractor(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turn images into embeddings with a frozen backbone.

    There is nothing to learn: `fit` looks at the images' shape and range and builds the network,
    and `transform` does so itself when `fit` was not called.

    Parameters
    ----------
    pooling : {"avg", "max", "flatten", "first", "first_avg"}, default "avg"
        How a feature map or tokens become a vector, as in `Head`.
    cache_dir : path, optional
        Where embeddings are kept, so that no image is run twice.
    random_state : int, RandomState or None
        Seed of random weights.
    backbone, weights, image_size, aspect, batch_size, engine, verbose
        As in `TransferClassifier`.

    Attributes
    ----------
    model_ : keras.Model
        uint8 RGB of shape (n, height, width, 3) to float32 (n, n_features_).
    n_features_ : int
        Width of an embedding.
    image_shape_, pixel_range_, blueprint_
        As in `TransferClassifier`.

    Examples
    --------
    >>> from tlclassify import FeatureExtractor
    >>> from tlclassify.datasets import make_shapes
    >>> X, y = make_shapes(20, random_state=0)
    >>> FeatureExtractor("mobilenet_micro").transform(X).shape
    (20, 512)
    """

    backbone: str | Backbone | keras.Model | Sequence[Any] = "mobilenet"
    _: KW_ONLY
    weights: str | Path | None = "pretrained"
    image_size: int | None = None
    aspect: str = STRETCH
    pooling: str = "avg"
    batch_size: int = 64
    cache_dir: str | Path | None = None
    engine: str = KERAS
    random_state: int | np.random.RandomState | None = None
    verbose: int = 1

    @classmethod
    def from_classifier(cls, clf: TransferClassifier) -> "FeatureExtractor":
        """Return the fitted extractor of what a classifier's head reads, fine-tuned layers and all.

        Its `backbone` is a row that holds a copy of the network, so that it can be cloned, fitted
        to images of another shape and put into a pipeline.

        Parameters
        ----------
        clf : TransferClassifier
            Fitted. Its `batch_size`, `cache_dir`, `engine` and `verbose` are taken over.

        Examples
        --------
        >>> from tlclassify import FeatureExtractor, TransferClassifier
        >>> from tlclassify.datasets import make_shapes
        >>> X, y = make_shapes(40, random_state=0)
        >>> clf = TransferClassifier("mobilenet_micro", random_state=0).fit(X, y)
        >>> FeatureExtractor.from_classifier(clf).transform(X).shape
        (40, 512)
        """
        check_fitted(clf)
        row = backbones.get_backbone(clf.blueprint_.backbone)
        row = backbones.take_backbone(clf.backbone_, row)
        shared = ("batch_size", "cache_dir", "engine", "verbose")
        aspect = clf.blueprint_.framing.aspect
        extractor = cls(row, aspect=aspect, **{name: getattr(clf, name) for name in shared})
        with as_in_the_fit(clf.blueprint_):
            extractor.fit(np.zeros((1, *clf.image_shape_), dtype=np.uint8))
        extractor.pixel_range_ = clf.pixel_range_
        return extractor

    def fit(self, X: Any, y: Any = None) -> "FeatureExtractor":  # noqa: ARG002 - scikit-learn's signature
        """Build the network for images such as these, as for `TransferClassifier.fit`."""
        check_shared(self, ("pooling", self.pooling, POOLINGS))
        row, head = backbones.get_backbone(self.backbone), Head(pooling=self.pooling)
        source, sizes = backbones.open_for_backbone(X, row, self.image_size, self.aspect)
        self.blueprint_ = Blueprint(
            self.backbone, self.weights, head, sizes, framing=source.framing
        )
        (seed,) = draw_seeds(self.random_state, 1)
        self.model_ = build_frozen(self.blueprint_, image_shape=source.shape, random_state=seed)
        # An engine would keep the last network alive.
        self._runners: dict[keras.Model, Runner] = {}
        self.n_features_ = self._n_features_out = int(self.model_.output_shape[1])
        self.image_shape_, self.pixel_range_ = (*source.shape, 3), source.pixel_range
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Return the embeddings of images.

        Parameters
        ----------
        X : array-like
            Images as for `TransferClassifier.fit`, once fitted of the same shape and range.

        Returns
        -------
        ndarray of shape (n, n_features_), float32
            Past 512 MiB, and without a `cache_dir`, a memory-mapped temporary file.
        """
        if not hasattr(self, "model_"):
            self.fit(X)
        source = reopen_images(X, self.image_shape_, self.pixel_range_, self.blueprint_.framing)
        running = Running(self.batch_size, self.cache_dir, self.verbose)
        runners = [reopen_runner(self, part) for part in parts_of(self.model_)]
        passes = [Pass(runner, source, running) for runner in runners]
        embeddings = [run_once([item])[0] for item in passes]
        return beside(embeddings) if len(passes) > 1 else embeddings[0][:]

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle keeps: all but the engine, which is opened again."""
        state = {key: x for key, x in super().__getstate__().items() if key != "_runners"}
        return state | {"model_": reduce_network(self.model_)} if "model_" in state else state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Build the network again."""
        if "model_" in state:
            state = state | {"model_": rebuild_network(state["model_"])}
        super().__setstate__(state)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.requires_fit = False
        return tags
