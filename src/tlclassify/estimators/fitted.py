"""Whether what functions are given is a fitted classifier."""

from typing import Any

from sklearn.utils.validation import check_is_fitted

from tlclassify.estimators.classifier import TransferClassifier

_OUT_OF_A_PIPELINE = "Pass the last step of a pipeline, or best_estimator_ of a search."


def check_fitted(clf: Any, *, advice: str = _OUT_OF_A_PIPELINE) -> None:
    """Check that `clf` is a fitted classifier.

    Parameters
    ----------
    clf : anything
    advice : str
        What to do with an object of another type.

    Raises
    ------
    TypeError
        If it is no TransferClassifier.
    sklearn.exceptions.NotFittedError
        If it has not been fitted.
    """
    if not isinstance(clf, TransferClassifier):
        raise TypeError(
            f"clf must be a TransferClassifier; received {type(clf).__name__}. {advice}"
        )
    check_is_fitted(clf, "model_")
