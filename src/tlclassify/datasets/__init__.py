"""Image sets to learn on: CIFAR-10, folders, tables, or drawn on the spot."""

from tlclassify.datasets._cifar10 import fetch_cifar10
from tlclassify.datasets._folder import ImageDataset, load_image_folder
from tlclassify.datasets._table import load_image_table
from tlclassify.datasets._toy import load_digits_rgb, make_shapes

__all__ = [
    "ImageDataset",
    "fetch_cifar10",
    "load_digits_rgb",
    "load_image_folder",
    "load_image_table",
    "make_shapes",
]
