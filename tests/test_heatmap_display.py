"""Heat over images: as it was given, where it was given, and legible."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from pictures import overlapping, texts_outside
from tlclassify.displays import HeatmapDisplay

LONG = "miscellaneous household appliance, $5 to $6, of the very longest name"


pytestmark = pytest.mark.usefixtures("figures")


def made(n, shape=(8, 8, 3), map_shape=None):
    rng = np.random.default_rng(0)
    heatmaps = rng.random((n, *(map_shape or shape[:2])), dtype=np.float32)
    return rng.integers(0, 256, (n, *shape), dtype=np.uint8), heatmaps


def test_heat_is_drawn_as_given_over_the_whole_image():
    images, heatmaps = made(3, map_shape=(2, 4))
    display = HeatmapDisplay(images, heatmaps=heatmaps, captions=["a", "b", "c"]).plot()
    for panel, heat in zip(display.ax_, heatmaps, strict=True):
        image, over = panel.images
        np.testing.assert_array_equal(over.get_array(), heat)
        assert over.get_extent() == image.get_extent() == [-0.5, 7.5, 7.5, -0.5]
        assert over.get_clim() == (0, 1)
        assert panel.get_xlim() == (-0.5, 7.5)
    assert [panel.get_title() for panel in display.ax_] == ["a", "b", "c"]


def test_the_hotter_a_place_the_more_is_covered_and_never_all():
    display = HeatmapDisplay(*made(1)[:1], heatmaps=made(1)[1]).plot()
    colors = display.ax_[0].images[1].to_rgba(np.linspace(0, 1, 50))
    assert colors[0, 3] == 0
    assert (np.diff(colors[:, 3]) > 0).all()
    assert colors[-1, 3] < 0.9


@pytest.mark.parametrize("kind", ["uint8", "float", "paths"])
def test_images_lose_most_of_their_colour_and_keep_their_brightness(kind, tmp_path):
    images, heatmaps = made(2)
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    given = {"uint8": images, "float": images / 255, "paths": paths}[kind]
    display = HeatmapDisplay(given, heatmaps=heatmaps).plot()
    for panel, image in zip(display.ax_, images / 255, strict=True):
        shown = panel.images[0].get_array()
        spread, spread_before = np.ptp(shown, axis=-1), np.ptp(image, axis=-1)
        np.testing.assert_allclose(spread, 0.2 * spread_before, atol=1e-6)
        brightness = [0.299, 0.587, 0.114]
        np.testing.assert_allclose(shown @ brightness, image @ brightness, atol=1e-6)


@pytest.mark.parametrize("shape", [(32, 32), (20, 30, 3), (6, 16, 1), (30, 10)])
@pytest.mark.parametrize(("n", "n_columns"), [(1, 6), (7, 6)])
def test_texts_lie_inside_and_captions_apart(shape, n, n_columns):
    images, heatmaps = made(n, shape)
    display = HeatmapDisplay(
        images, heatmaps=heatmaps, captions=[LONG] * n, n_columns=n_columns
    ).plot()
    assert texts_outside(display.figure_) == []
    for start in range(0, n, n_columns):
        titles = [panel.title for panel in display.ax_[start:][:n_columns]]
        assert overlapping(titles) == []


def test_the_bar_says_what_the_colours_mean():
    images, heatmaps = made(12)
    figure = HeatmapDisplay(images, heatmaps=heatmaps).plot().figure_
    bar = figure.axes[-1]
    assert bar.get_ylabel() == "Heat"
    assert [label.get_text() for label in bar.get_yticklabels()] == ["0", "1"]
    assert bar.get_ylim() == (0, 1)


def test_on_axes_of_the_caller_there_is_no_bar():
    images, heatmaps = made(2)
    figure, axes = plt.subplots(1, 3)
    display = HeatmapDisplay(images, heatmaps=heatmaps).plot(axes)
    assert list(display.ax_) == list(axes[:2])
    assert display.figure_ is figure
    assert figure.axes == list(axes)


def test_bad_input():
    images, heatmaps = made(3)
    not_a_number = heatmaps * np.float32(np.nan)
    for bad in (heatmaps[1:], heatmaps[0, :3], heatmaps * 2, not_a_number, heatmaps.astype(int)):
        words = rf"must be 3 maps.*; received {bad.dtype} of shape \({bad.shape[0]}, 8"
        with pytest.raises(ValueError, match=words):
            HeatmapDisplay(images, heatmaps=bad)
    with pytest.raises(ValueError, match="captions must have one value per image"):
        HeatmapDisplay(images, heatmaps=heatmaps, captions=["a"])
    with pytest.raises(ValueError, match="n_columns must be an integer"):
        HeatmapDisplay(images, heatmaps=heatmaps, n_columns=0).plot()
    with pytest.raises(ValueError, match="ax must hold 3 Axes for HeatmapDisplay; received 1"):
        HeatmapDisplay(images, heatmaps=heatmaps).plot(plt.figure().subplots())
