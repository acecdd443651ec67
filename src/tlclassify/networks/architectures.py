"""Convolutional networks built here because ``keras.applications`` has no equal of them."""

from collections.abc import Sequence

import keras

# Each output of a depthwise 3x3 convolution sums 9 inputs; Keras's own "he_normal" counts the
# inputs of all channels, and 13 such layers would let untrained features vanish.
_DEPTHWISE_STDDEV = (2 / 9) ** 0.5


def build_alexnet(x: keras.KerasTensor) -> keras.KerasTensor:
    """Build the convolutional part of AlexNet as a single tower.

    Batch normalisation stands where the paper had local response normalisation, which
    Keras does not offer and later work found to add nothing.

    Parameters
    ----------
    x : keras.KerasTensor of shape (None, height, width, 3)
        Scaled images, at least 63 pixels a side; the paper used 227.

    Returns
    -------
    keras.KerasTensor of shape (None, height, width, 256)
        The feature map; 6x6 for images of 227 pixels, as in the paper.

    References
    ----------
    Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional
    Neural Networks", NeurIPS 2012.
    """
    x = _convolution(x, 96, 11, strides=4, name="conv1")
    x = keras.layers.MaxPooling2D(3, 2, name="pool1")(x)
    x = _convolution(x, 256, 5, name="conv2")
    x = keras.layers.MaxPooling2D(3, 2, name="pool2")(x)
    x = _convolution(x, 384, 3, name="conv3")
    x = _convolution(x, 384, 3, name="conv4")
    x = _convolution(x, 256, 3, name="conv5")
    return keras.layers.MaxPooling2D(3, 2, name="pool5")(x)


def build_mobilenet_micro(x: keras.KerasTensor) -> keras.KerasTensor:
    """Build a MobileNet v1 of width 0.5 whose strides suit 32-pixel images.

    Layer for layer the published network, with ReLU for ReLU6; but it halves its input three
    times, in blocks 1, 4 and 6, so that 32 pixels end in a 4x4 feature map, not in 1x1.

    Parameters
    ----------
    x : keras.KerasTensor of shape (None, height, width, 3)
        Images scaled to [-1, 1].

    Returns
    -------
    keras.KerasTensor of shape (None, height / 8, width / 8, 512)
        The feature map.

    References
    ----------
    Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
    Applications", arXiv:1704.04861.
    """
    x = _convolution(x, 16, 3, name="conv1")
    x = _separable_blocks(x, [(32, 2), (64, 1), (64, 1), (128, 2), (128, 1), (256, 2)], first=1)
    return _separable_blocks(x, [(256, 1)] * 5 + [(512, 1)] * 2, first=7)


def _convolution(
    x: keras.KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    name: str,
    strides: int = 1,
) -> keras.KerasTensor:
    x = keras.layers.Conv2D(
        filters,
        kernel_size,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    x = keras.layers.BatchNormalization(name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _separable_blocks(
    x: keras.KerasTensor, blocks: Sequence[tuple[int, int]], *, first: int
) -> keras.KerasTensor:
    for number, (filters, strides) in enumerate(blocks, start=first):
        x = keras.layers.DepthwiseConv2D(
            3,
            strides,
            padding="same",
            use_bias=False,
            depthwise_initializer=keras.initializers.RandomNormal(stddev=_DEPTHWISE_STDDEV),
            name=f"conv_dw_{number}",
        )(x)
        x = keras.layers.BatchNormalization(name=f"conv_dw_{number}_bn")(x)
        x = keras.layers.ReLU(name=f"conv_dw_{number}_relu")(x)
        x = _convolution(x, filters, 1, name=f"conv_pw_{number}")
    return x
