"""Image sets to learn on: downloaded and verified, from a folder, or drawn on the spot."""

from tlclassify.datasets._cifar10 import fetch_cifar10
from tlclassify.datasets._folder import load_image_folder
from tlclassify.datasets._records import ImageDataset, ImageFolder, LabelledImages
from tlclassify.datasets._toy import load_digits_rgb, make_shapes

__all__ = [
    "ImageDataset",
    "ImageFolder",
    "LabelledImages",
    "fetch_cifar10",
    "load_digits_rgb",
    "load_image_folder",
    "make_shapes",
]
