"""Steps of graphs that every runtime has: resizing, views, mirror images, temperature."""

import keras
import numpy as np

from tlclassify._checks.images import STRETCHED, Framing
from tlclassify.inputs.augmentation import N_VIEW_NUMBERS
from tlclassify.networks.cuts import SCALING, inputs_of

# Products with fewer columns are too small to be fast, with more they multiply by many zeros.
_BAND_PIXELS = 64
# The smallest normal number: a probability of 0 has no logarithm, and a smaller one is 0 to some.
SMALLEST_PROBABILITY = float(np.finfo(np.float32).tiny)
# Some ten roundings of float32 below the top class: no softmax makes these two equal.
_GAP = 1e-6


def build_resizing(
    images: keras.KerasTensor, size: int, framing: Framing = STRETCHED
) -> keras.KerasTensor:
    """Return images of one shape, uint8, as float32 of `size` x `size`, resized as by Keras."""
    rows, columns = framing.place(images.shape[1:3], (size, size))
    if (rows.n_seen, columns.n_seen) != images.shape[1:3]:
        right = columns.start + columns.n_seen
        images = images[:, rows.start : rows.start + rows.n_seen, columns.start : right]
    # Enlarged bicubically, CIFAR-10 is classified 0.8 points better than bilinearly; when
    # shrinking, pixels would be skipped without antialiasing.
    antialias = rows.n_seen > rows.n_covered or columns.n_seen > columns.n_covered
    if (rows.n_seen, columns.n_seen) == (rows.n_covered, columns.n_covered):
        x = keras.ops.cast(images, "float32")
    else:
        # Resizing is another function in every runtime, and a slow one in some. From a fixed size
        # to a fixed size it is a product with a matrix along each row, and one along each column.
        # Colours stay beside each other, at the price of zeros in the matrix: to set them apart,
        # the image as it came would have to be transposed.
        x = keras.ops.reshape(images, (-1, rows.n_seen, columns.n_seen * 3))
        x = _resize_last_axis(x, columns.n_covered, n_beside=3, antialias=antialias)
        x = keras.ops.transpose(x, (0, 2, 1))
        x = _resize_last_axis(x, rows.n_covered, n_beside=1, antialias=antialias)
        x = keras.ops.transpose(x, (0, 2, 1))
        x = keras.ops.reshape(x, (-1, rows.n_covered, columns.n_covered, 3))
    spare = [size - span.n_covered for span in (rows, columns)]
    if not any(spare):
        return x
    border = [(0, 0), *((n // 2, n - n // 2) for n in spare), (0, 0)]
    # Zeros are what every runtime can put around.
    fill = np.array(framing.fill, np.float32)
    return keras.ops.pad(x - fill, border) + fill


def _resize_last_axis(
    x: keras.KerasTensor, size: int, *, n_beside: int, antialias: bool
) -> keras.KerasTensor:
    n_rows, length = x.shape[1:]
    resize = keras.layers.Resizing(
        1, size, interpolation="bicubic", antialias=antialias, dtype="float32"
    )
    # What a row of pixels is multiplied by, read off Keras's layer as it resizes images of one row:
    # each pixel is 1 in one of them, and 0 in the others.
    pixels = resize(np.eye(length // n_beside, dtype=np.float32)[:, None, :, None])
    matrix = np.asarray(keras.ops.convert_to_numpy(pixels))[:, 0, :, 0]
    # In two dimensions a runtime hands the product to its matrix kernel as it is. The matrix stands
    # on the right: LiteRT's int8 product with a constant on the left is wrong, save for small ones.
    x = keras.ops.reshape(x, (-1, length))
    n_bands = min(max(1, len(matrix) // _BAND_PIXELS), size)
    parts = []
    for band in np.array_split(matrix, n_bands, axis=1):
        # A pixel depends on a few of its neighbours, so most of the whole matrix is zero.
        used = np.flatnonzero(band.any(axis=1))
        first, last = int(used[0]), int(used[-1]) + 1
        of_all = np.kron(band[first:last], np.eye(n_beside, dtype=np.float32))
        # Cast where it is read: the whole in float32 would be four times as much to write.
        seen = keras.ops.cast(x[:, first * n_beside : last * n_beside], "float32")
        parts.append(keras.ops.matmul(seen, of_all))
    x = parts[0] if n_bands == 1 else keras.ops.concatenate(parts, axis=1)
    return keras.ops.reshape(x, (-1, n_rows, size * n_beside))


def build_view(images: keras.KerasTensor, numbers: keras.KerasTensor) -> keras.KerasTensor:
    """Return images, float32 in [0, 255], changed as their views say; not held to that range."""
    # Of a view's ten numbers eight are a transformation from its pixels to the image's; then what
    # is added to each pixel, and what its deviation from its channel's mean is multiplied by.
    x = keras.ops.image.affine_transform(
        images, numbers[:, :8], interpolation="bilinear", fill_mode="reflect"
    )
    added = keras.ops.reshape(numbers[:, 8], (-1, 1, 1, 1))
    contrast = keras.ops.reshape(numbers[:, 9], (-1, 1, 1, 1))
    mean = keras.ops.mean(x, axis=(1, 2), keepdims=True)
    # Written so that view 0 is the image itself to the last bit.
    return x + (contrast - 1) * (x - mean) + added


def add_views(network: keras.Model, output: keras.KerasTensor) -> keras.Model:
    """Return the way from images and the numbers of their views to a tensor above the scaling."""
    (resized,) = inputs_of(network.get_layer(SCALING))
    numbers = keras.Input((N_VIEW_NUMBERS,), name="view")
    above = keras.Model(resized, output, name=network.name)
    return keras.Model([network.input, numbers], above(build_view(resized, numbers)))


def build_classifier(
    network: keras.Model, top: keras.Model, *, temperature: float = 1.0, mirrored: bool = False
) -> keras.Model:
    """Build the whole of a backbone and a head: raw uint8 images to probabilities."""
    inputs = network.input
    if mirrored:
        # As one batch: two passes would read, and some runtimes keep, all weights twice.
        views = keras.ops.concatenate([inputs, mirror(inputs)], axis=0)
        both = keras.ops.reshape(top(network(views)), (2, -1, top.output.shape[-1]))
        outputs = keras.ops.mean(keras.ops.cast(both, "float32"), axis=0)
    else:
        outputs = top(network.output)
    if temperature != 1:
        outputs = scale_probabilities(outputs, temperature)
    return keras.Model(inputs, outputs, name="classifier")


def mirror(images: keras.KerasTensor) -> keras.KerasTensor:
    """Return images of which left and right are exchanged."""
    # Every runtime can look up columns of bytes; not all can reverse them.
    return keras.ops.take(images, [*range(images.shape[2])][::-1], axis=2)


def scale_probabilities(probabilities: keras.KerasTensor, temperature: float) -> keras.KerasTensor:
    """Return softmax(log(p) / temperature) in a graph, as float32; no label changes, nor a tie."""
    p = keras.ops.cast(probabilities, "float32")
    top = keras.ops.max(p, axis=-1, keepdims=True)
    ratios = keras.ops.maximum(keras.ops.divide(p, top), SMALLEST_PROBABILITY)
    rescale = keras.layers.Rescaling(1 / temperature, dtype="float32", name="temperature")
    # A high temperature would make neighbours in float32 equal, and another label come first.
    below = keras.ops.minimum(rescale(keras.ops.log(ratios)), -_GAP)
    # p - top is 0 for the top class, whatever the hardware makes of log(p / p), and keeps NaN.
    logits = keras.ops.where(keras.ops.less(p, top), below, keras.ops.subtract(p, top))
    return keras.layers.Softmax(dtype="float32", name="calibrated")(logits)
