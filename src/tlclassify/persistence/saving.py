"""Classifiers as files that hold numbers and text, and nothing that runs."""

from pathlib import Path

from tlclassify._checks.files import open_whole, write_whole
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.estimators.fitted import check_fitted
from tlclassify.evaluation import EvaluationReport
from tlclassify.networks.backbones import Backbone, get_backbone, list_backbones
from tlclassify.networks.heads import HeadBuilder
from tlclassify.persistence.model_card import build_model_card, check_report
from tlclassify.persistence.saved_classifiers import (
    Source,
    read_classifier,
    write_classifier,
)

__all__ = ["load", "save"]


def save(
    clf: TransferClassifier,
    path: str | Path,
    *,
    card: bool = False,
    report: EvaluationReport | None = None,
) -> None:
    """Write a fitted classifier to one file, which `load` reads without running anything in it.

    The file appears under its name when it is whole; until then, what there was is left as it is.

    Parameters
    ----------
    clf : TransferClassifier
        Fitted. All is kept but `callbacks`, `cache_dir`, `engine`, a `random_state` that is no
        integer, and functions: a backbone is kept by its name, and a head that a function built
        without the function.
    path : path
        Of the file; its folder is made if need be. Any suffix will do; ours is ``.tlc``.
    card : bool, default False
        Whether to write a model card beside it, in Markdown, at `path` with ``.md`` appended.
    report : EvaluationReport, optional
        For the card: how good the classifier is.

    Raises
    ------
    TypeError
        If `clf` is no TransferClassifier, or has parameters that no file holds.
    sklearn.exceptions.NotFittedError
        If `clf` has not been fitted.
    ValueError
        If `clf` is beyond the limits of a file or answers with NaN, if its backbone has the name
        of another one that is registered, or if `report` is of other classes or comes without a
        card.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from tlclassify import TransferClassifier, load, save
    >>> from tlclassify.datasets import make_shapes
    >>> X, y = make_shapes(60, random_state=0)
    >>> clf = TransferClassifier("mobilenet_micro", random_state=0).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(clf, f"{folder}/shapes.tlc")
    ...     loaded = load(f"{folder}/shapes.tlc")
    >>> bool((loaded.predict_proba(X) == clf.predict_proba(X)).all())
    True
    """
    advice = "Pass the fitted classifier itself, not its model_ nor a pipeline around it."
    check_fitted(clf, advice=advice)
    _check_name(clf.blueprint_.backbone)
    check_report(report, clf, card=card)
    with open_whole(path) as file:
        write_classifier(clf, file)
    if card:
        write_whole(f"{path}.md", build_model_card(clf, report=report).encode())


def load(path: str | Path, *, head: HeadBuilder | None = None) -> TransferClassifier:
    """Read a classifier that `save` wrote, and hold it against what it answered then.

    The networks are built from the registry of backbones and filled with the file's numbers.
    Nothing in the file is run, unpickled or written anywhere, and no more memory is taken than
    for the backbone that it names, for the file itself, and for classifying one image. What a
    function of your own takes, as a backbone or as `head`, is its own affair: it is called with
    the file's image size and number of classes, and its weights are compared with the file's
    when it has built them.

    Parameters
    ----------
    path : path
    head : callable, optional
        The function that built the head, where a function did: the same as at the time.

    Returns
    -------
    TransferClassifier
        Fitted, with `callbacks` and `cache_dir` None and `engine` "keras".

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If there is no file of this name.
    ValueError
        For whatever else is wrong: the file is damaged or none of ours, of a later format, beyond
        the limits; its backbone is not registered or has other weights; its head is a function's
        and `head` is missing, or the other way round; or the classifier answers differently.
    TypeError
        If `head` is no function.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"path must name a file; received the folder {str(path)!r}.")
    if not path.is_file():
        raise FileNotFoundError(
            f"path must name a file that save wrote; there is none at {str(path)!r}."
        )
    if head is not None and not callable(head):
        raise TypeError(
            "head must be the function (feature_map, n_classes) -> probabilities that built the "
            f"head, or None; received {type(head).__name__}."
        )
    name = repr(str(path))
    source = Source(
        name,
        f"path must name a whole file that save wrote; {name} is none",
        "Copy it again from where it is whole, or save it again.",
    )
    with path.open("rb") as file:
        return read_classifier(file, source, head=head)


def _check_name(backbone: str | Backbone) -> None:
    if isinstance(backbone, str) or backbone.name not in list_backbones():
        return
    if get_backbone(backbone.name) != backbone:
        raise ValueError(
            f"clf has a backbone of the name {backbone.name!r}, and another one is registered "
            "under it, which load would take. Fit with a row of another name: "
            "dataclasses.replace(row, name='...')."
        )
