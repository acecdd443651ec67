"""Convolutional networks built here because ``keras.applications`` has no equal of them."""

import keras

# Each output of a depthwise 3x3 convolution sums 9 inputs; Keras's own "he_normal" counts the
# inputs of all channels, and 13 such layers would let untrained features vanish.
_DEPTHWISE_STDDEV = (2 / 9) ** 0.5


def build_alexnet(x: keras.KerasTensor) -> keras.KerasTensor:
    """Build the convolutional part of AlexNet as a single tower, from images of 63 pixels up.

    Batch normalisation stands where the paper had local response normalisation, which Keras does
    not offer and later work found to add nothing.
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
    """
    x = _convolution(x, 16, 3, name="conv1")
    filters = (32, 64, 64, 128, 128, *[256] * 6, 512, 512)
    for number, n_filters in enumerate(filters, start=1):
        x = keras.layers.DepthwiseConv2D(
            3,
            2 if number in {1, 4, 6} else 1,
            padding="same",
            use_bias=False,
            depthwise_initializer=keras.initializers.RandomNormal(stddev=_DEPTHWISE_STDDEV),
            name=f"conv_dw_{number}",
        )(x)
        x = keras.layers.BatchNormalization(name=f"conv_dw_{number}_bn")(x)
        x = keras.layers.ReLU(name=f"conv_dw_{number}_relu")(x)
        x = _convolution(x, n_filters, 1, name=f"conv_pw_{number}")
    return x


def _convolution(
    x: keras.KerasTensor, filters: int, kernel_size: int, *, name: str, strides: int = 1
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
