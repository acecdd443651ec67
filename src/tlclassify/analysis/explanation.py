"""Where a classifier looks: maps of what in an image speaks for a class."""

from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlclassify._checks.files import read_image
from tlclassify._checks.images import STRETCH
from tlclassify._checks.parameters import check_labels, close_match_hint, encode_labels, listed
from tlclassify.engines.runners import count_devices, round_up, run_batches
from tlclassify.estimators.classifier import TransferClassifier, check_fitted
from tlclassify.inputs.images import reopen_images
from tlclassify.networks.cuts import SCALING, cut_points, inputs_of, output_at, outputs_of
from tlclassify.networks.steps import mirror

# A file is read as large as that to see its shape.
_SIDE = 256


def grad_cam(
    clf: TransferClassifier,
    X: Any,
    *,
    labels: ArrayLike | None = None,
    layer: str | None = None,
) -> NDArray[np.float32]:
    """Return for each image where the evidence for a class lies, by Grad-CAM [1]_.

    Channels of a feature map are weighed with the mean slope of the class's score by them, and
    their sum, where it is above zero, is enlarged to the image. With `predict_mirrored` a map is
    the mean of the image's and of the mirror image's, mirrored back.

    Parameters
    ----------
    clf : TransferClassifier, fitted
    X : array-like, images as for `clf.predict_proba`
    labels : label or array-like of shape (n,), optional
        The class to look for: one for all images, or one for each. By default the predicted one.
    layer : str, optional
        The feature map, a cut point of the backbone that has rows and columns, by default the last.
        Lower ones are finer and say less about the class.

    Returns
    -------
    ndarray of shape (n, height, width), float32 in [0, 1]
        Of the height and width of `clf.image_shape_`, from edge to edge of the image or file: what
        `aspect` cuts off is 0. The largest value of a map is 1; a map is 0 throughout where nothing
        speaks for the class.

    Raises
    ------
    TypeError, NotFittedError, ValueError
        If a parameter is not as above.

    References
    ----------
    .. [1] R. R. Selvaraju et al. (2017), Grad-CAM: visual explanations from deep networks, ICCV.

    Examples
    --------
    >>> from tlclassify import TransferClassifier, grad_cam
    >>> from tlclassify.datasets import make_shapes
    >>> X, y = make_shapes(60, random_state=0)
    >>> clf = TransferClassifier("mobilenet_micro", random_state=0).fit(X, y)
    >>> heatmaps = grad_cam(clf, X[:4])
    >>> heatmaps.shape, heatmaps.dtype, float(heatmaps.max())
    ((4, 32, 32), dtype('float32'), 1.0)
    """
    check_fitted(clf)
    source = reopen_images(X, clf.image_shape_, clf.pixel_range_, clf.blueprint_.framing)
    targets = None if labels is None else _check_targets(labels, clf.classes_, len(source))
    is_mirrored = clf.blueprint_.is_mirrored
    if is_mirrored and targets is None:
        # Of the mean, which neither view alone need have.
        targets = clf.predict_proba(X).argmax(axis=1)
    feature_map = _find_map(clf.backbone_, layer)
    below = keras.Model(clf.backbone_.input, feature_map)
    above = _build_scores(clf.backbone_, feature_map, clf.head_)
    batch_size = round_up(min(clf.batch_size, len(source)), count_devices(clf.model_))
    probe = _build_probe(above, batch_size)
    shifts = probe.get_layer("shifts")

    def explain(below: keras.Model) -> NDArray[np.float32]:
        maps: list[NDArray[np.float32]] = []
        for features in run_batches(below, source, batch_size=batch_size):
            # A short batch is filled up with its own images, so that all are compiled as one.
            filled = np.resize(features, (batch_size, *features.shape[1:]))
            if targets is None:
                columns = np.asarray(above.predict_on_batch(filled)).argmax(axis=1)[:batch_size]
            else:
                columns = np.resize(targets[len(maps) :][: len(features)], batch_size)
            rows = np.arange(batch_size, dtype=np.int32)[:, None]
            probe.train_on_batch([filled, rows], columns[:, None])
            (slopes,) = shifts.get_weights()
            shifts.set_weights([np.zeros_like(slopes)])
            maps += [*np.maximum(filled @ slopes[:, None, :, None], 0)[: len(features)]]
        return np.stack(maps)

    maps = explain(below)
    if is_mirrored:
        of_mirror_images = keras.Model(below.input, below(mirror(below.input)))
        maps = np.mean([maps, explain(of_mirror_images)[:, :, ::-1]], axis=0, dtype=np.float32)
    heatmaps = np.empty((len(source), *source.shape), np.float32)
    has_shapes = source.is_files and source.framing.aspect != STRETCH
    for row, (image, square) in enumerate(zip(source.images, maps, strict=True)):
        shape = read_image(image, max_side=_SIDE).shape[:2] if has_shapes else source.shape
        extent = source.framing.extent(shape, source.shape)
        down, across = map(_reading, square.shape, source.shape, extent)
        heat = down @ square[..., 0] @ across.T
        heatmaps[row] = heat / (heat.max() or 1)
    return heatmaps


def _check_targets(labels: ArrayLike, classes: NDArray[Any], n: int) -> NDArray[np.intp]:
    one_for_all = np.ndim(labels) == 0
    found = np.reshape(labels, 1) if one_for_all else labels
    found = check_labels(found, n_samples=1 if one_for_all else n, name="labels")
    advice = "Pass one of them for all images, one for each, or None for the predicted ones."
    return np.resize(encode_labels(found, classes, name="labels", advice=advice), n)


def _find_map(network: keras.Model, layer: str | None) -> keras.KerasTensor:
    """Return the output of a layer that has rows and columns, by default of the topmost."""
    points = cut_points(network)
    if SCALING not in points:
        raise ValueError(
            f"clf must have one backbone; received {network.name!r}, whose feature maps are of "
            "different sizes. Explain classifiers with one of them each."
        )
    outputs = {name: output_at(network, name) for name in points[points.index(SCALING) :][::-1]}
    maps = {name: output for name, output in outputs.items() if len(output.shape) == 4}
    chosen = next(iter(maps)) if layer is None else layer
    if layer is None and chosen == SCALING:
        raise ValueError(
            f"clf must have a backbone with a feature map; {network.name!r} has none, whose "
            "channels could be weighed. Take one that is built of convolutions."
        )
    if chosen not in maps:
        raise ValueError(
            f"layer must name a cut point of {network.name!r} with rows and columns; received "
            f"{layer!r}.{close_match_hint(layer, maps)} From the top: {listed(maps)}. Pass None "
            "for the first of them."
        )
    return maps[chosen]


def _build_scores(
    network: keras.Model, feature_map: keras.KerasTensor, head: keras.Model
) -> keras.Model:
    """Build what lies between a feature map and the scores of the classes."""
    inputs = keras.Input(feature_map.shape[1:], dtype=feature_map.dtype)
    x = inputs
    if feature_map is not network.output:
        x = keras.Model(feature_map, network.output)(x)
    last = head.operations[-1]
    activation = getattr(last, "activation", None)
    is_softmax = isinstance(last, keras.layers.Softmax) or activation is keras.activations.softmax
    if not is_softmax or outputs_of(last)[0] is not head.output:
        x = keras.ops.log(head(x) + keras.config.epsilon())
        return keras.Model(inputs, x, name="scores")
    x = keras.Model(head.input, inputs_of(last)[0])(x)
    if isinstance(last, keras.layers.Dense):
        linear = keras.layers.Dense(
            last.units, use_bias=last.use_bias, kernel_initializer="zeros", dtype="float32"
        )
        x = linear(x)
        linear.set_weights(last.get_weights())
    return keras.Model(inputs, x, name="scores")


def _build_probe(above: keras.Model, batch_size: int) -> keras.Model:
    """Build the model that finds the slopes of scores by one step of training."""
    # Keras has no word for a gradient that all backends know, but every one of them trains. To each
    # channel of each image's feature map a weight is added that is zero. A step of plain gradient
    # descent leaves in it the slope of the image's score, summed over the map.
    shape = above.input.shape[1:]
    features = keras.Input(shape, dtype="float32", name="features")
    rows = keras.Input((1,), dtype="int32", name="rows")
    shifts = keras.layers.Embedding(
        batch_size, shape[-1], embeddings_initializer="zeros", dtype="float32", name="shifts"
    )(rows)
    shifts = keras.layers.Reshape((1, 1, shape[-1]), dtype="float32")(shifts)
    shifted = keras.layers.Add(dtype="float32")([features, shifts])
    probe = keras.Model([features, rows], shifted, name="probe")

    class NegativeScores(keras.losses.Loss):  # type: ignore[misc]
        def call(self, columns: Any, shifted: Any) -> Any:
            # Inside the probe's own graph Keras would run dropout and move the statistics of
            # batch normalisation, whatever its layers were called with; here it takes our word.
            scores = above(shifted, training=False)
            return -keras.ops.take_along_axis(scores, keras.ops.cast(columns, "int32"), axis=-1)

    # Keras takes the mean of the losses over the batch; the rate makes a sum of it again.
    descent = keras.optimizers.SGD(learning_rate=float(batch_size))
    probe.compile(descent, loss=NegativeScores(dtype="float32"), auto_scale_loss=False)
    return probe


def _reading(n_have: int, n: int, extent: float) -> NDArray[np.float64]:
    """Return the matrix (n, n_have) that reads a square's map where a picture's pixels lie."""
    # Linearly between neighbours, or as the mean of so many as fall on one pixel.
    places = n_have * (0.5 + extent * ((np.arange(n) + 0.5) / n - 0.5))
    distances = np.abs(places[:, None] - 0.5 - np.arange(n_have))
    weights = np.maximum(1 - distances / max(1, extent * n_have / n), 0)
    inside = (places >= 0) & (places <= n_have)
    return np.asarray(weights * (inside / np.maximum(weights.sum(axis=1), 1e-9))[:, None])
