"""What the loaders return: frozen records of arrays, with a short text for a person."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, repr=False)
class ImageDataset:
    """Labelled images, already divided into training and test images.

    Attributes
    ----------
    X_train : ndarray of shape (n_train, height, width, 3) and dtype uint8
        Training images, RGB in [0, 255].
    y_train : ndarray of shape (n_train,) and dtype int64
        Their labels: positions in `class_names`.
    X_test : ndarray of shape (n_test, height, width, 3) and dtype uint8
        Test images, RGB in [0, 255].
    y_test : ndarray of shape (n_test,) and dtype int64
        Their labels.
    class_names : tuple of str
        The name of each label.
    """

    X_train: NDArray[np.uint8]
    y_train: NDArray[np.int64]
    X_test: NDArray[np.uint8]
    y_test: NDArray[np.int64]
    class_names: tuple[str, ...]

    def __repr__(self) -> str:
        size = "x".join(str(side) for side in self.X_train.shape[1:])
        return (
            f"{type(self).__name__}({len(self.X_train)} training and {len(self.X_test)} test "
            f"images of {size}, {len(self.class_names)} classes)"
        )


@dataclass(frozen=True, eq=False, repr=False)
class LabelledImages:
    """Images in memory with their labels.

    Attributes
    ----------
    X : ndarray of shape (n_samples, height, width, 3) and dtype uint8
        Images, RGB in [0, 255].
    y : ndarray of shape (n_samples,) and dtype int64
        Labels: positions in `class_names`.
    class_names : tuple of str
        The name of each label.
    """

    X: NDArray[np.uint8]
    y: NDArray[np.int64]
    class_names: tuple[str, ...]

    def __repr__(self) -> str:
        size = "x".join(str(side) for side in self.X.shape[1:])
        n_classes = len(self.class_names)
        return f"{type(self).__name__}({len(self.X)} images of {size}, {n_classes} classes)"


@dataclass(frozen=True, eq=False, repr=False)
class ImageFolder:
    """Image files with their labels; the pixels stay on the disk.

    Attributes
    ----------
    paths : ndarray of shape (n_samples,) and dtype object
        File paths as str, sorted by class and then by path.
    y : ndarray of shape (n_samples,) and dtype str
        The class name of each file.
    class_names : tuple of str
        Names of the class folders, sorted.
    ignored_paths : tuple of str
        Files and links that were left out because they are not images of a class.
    """

    paths: NDArray[Any]
    y: NDArray[np.str_]
    class_names: tuple[str, ...]
    ignored_paths: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({len(self.paths)} image files, {len(self.class_names)} "
            f"classes, {len(self.ignored_paths)} other files ignored)"
        )
