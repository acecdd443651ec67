"""Augmentation as parameters, and a view of an image as numbers that a graph applies."""

import keras


def build_view(images: keras.KerasTensor, numbers: keras.KerasTensor) -> keras.KerasTensor:
    """Return images changed as their views say.

    Parameters
    ----------
    images : keras.KerasTensor of shape (None, height, width, 3), float32 in [0, 255]
    numbers : keras.KerasTensor of shape (None, 10), float32
        Eight of a projective transformation from the view's pixels to the image's, as
        ``keras.ops.image.affine_transform`` takes them; what is added to each pixel; and what
        its deviation from its channel's mean is multiplied by.

    Returns
    -------
    keras.KerasTensor
        As `images`, but not held to [0, 255].
    """
    x = keras.ops.image.affine_transform(
        images, numbers[:, :8], interpolation="bilinear", fill_mode="reflect"
    )
    added = keras.ops.reshape(numbers[:, 8], (-1, 1, 1, 1))
    contrast = keras.ops.reshape(numbers[:, 9], (-1, 1, 1, 1))
    mean = keras.ops.mean(x, axis=(1, 2), keepdims=True)
    # Written so that view 0 is the image itself to the last bit.
    return x + (contrast - 1) * (x - mean) + added
