"""Classifiers configured as others have published theirs, to be compared with."""

from pathlib import Path
from typing import Any

from sklearn.base import clone

from tlclassify._checks.parameters import check_choice
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.training.stages import Stage

__all__ = ["article_classifier"]

_ARTICLE_STAGE = Stage(
    30,
    unfreeze="all",
    optimizer="sgd",
    learning_rate=1e-3,
    schedule="plateau_article",
    batch_size=100,
    patience=None,
    batch_norm="train",
)
# The article's ResNet50 and MobileNet; the others as its sister articles, with ResNet50's epochs.
_ARTICLE_ROWS: dict[str, dict[str, Any]] = {
    "resnet50": {"epochs": 30, "head": "article", "image_size": 32},
    "mobilenet": {"epochs": 100, "head": "article_plain", "image_size": 32},
    "vgg16": {"epochs": 30, "head": "article", "image_size": 32},
    "vgg19": {"epochs": 30, "head": "article", "image_size": 32},
    "alexnet": {"epochs": 30, "head": "article", "image_size": None},
}


def article_classifier(
    backbone: str = "mobilenet",
    *,
    epochs: int | None = None,
    weights: str | Path | None = "pretrained",
    random_state: int | None = None,
    verbose: int = 1,
) -> TransferClassifier:
    """Return a classifier, not fitted, that trains as in the article this library grew out of.

    The whole network is trained from the start on 70 % of the images, at 32 pixels and in fresh
    augmented views, with batch normalisation in training mode: SGD at 0.001 with momentum 0.9,
    batches of 100, and the learning rate cut to a hundredth, 1e-5 at least, after 3 epochs
    without a better validation accuracy. Unlike there, the best epoch is kept, not the last.

    Parameters
    ----------
    backbone : {"resnet50", "mobilenet", "vgg16", "vgg19", "alexnet"}, default "mobilenet"
        AlexNet sees the images at its own size.
    epochs : int, optional
        None: 100 for MobileNet, 30 for the others.
    weights : {"pretrained"}, path or None, default "pretrained"
        AlexNet has no pretrained ones and begins with random ones.
    random_state, verbose
        As in `TransferClassifier`.

    Examples
    --------
    >>> from tlclassify.estimators.recipes import article_classifier
    >>> clf = article_classifier("mobilenet")
    >>> clf.fine_tune_stage.epochs, clf.fine_tune_stage.optimizer, clf.validation_fraction
    (100, 'sgd', 0.3)
    """
    row = _ARTICLE_ROWS[check_choice("backbone", backbone, tuple(_ARTICLE_ROWS))]
    epochs = row["epochs"] if epochs is None else epochs
    return TransferClassifier(
        backbone,
        weights=None if (backbone, weights) == ("alexnet", "pretrained") else weights,
        image_size=row["image_size"],
        head=row["head"],
        augmentation="article",
        head_stage=None,
        fine_tune_stage=clone(_ARTICLE_STAGE).set_params(epochs=epochs),
        validation_fraction=0.3,
        random_state=random_state,
        verbose=verbose,
    )
