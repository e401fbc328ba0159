"""Diagrams: they state the model's numbers and show the sample's pictures; words fit their boxes."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from lib.plots import diagrams
from lib.plots.clips import ClipSample


def small_sample() -> ClipSample:
    """A clip of 2 x 2 x 3 cubes of 2 x 4 x 4."""
    video, hidden = torch.rand(3, 4, 8, 12), torch.rand(2, 2, 3) > 0.5
    return ClipSample(video, torch.full((2, 2, 3), 1 / 12), hidden, prediction=1 - video)


def words(figure: Figure) -> str:
    return " | ".join(text.get_text() for text in figure.axes[0].texts)


@pytest.mark.parametrize("numbers", [(512, 25, 128, 64), (1568, 78, 768, 384)])
def test_adamae_states_its_numbers(numbers):
    cubes, visible, width, decoder = numbers
    said = words(diagrams.adamae_figure(*numbers, small_sample()))
    for shape in (f"N x D = {cubes:,} x {width}", f"K x D = {visible:,} x {width}", f"{cubes:,} x {decoder}"):
        assert shape in said
    assert f"{1 - visible / cubes:.1%} hidden" in said and said.count("stop-gradient") == 2


def test_adamae_shows_the_sample():
    sample = small_sample()
    (axis,) = diagrams.adamae_figure(12, 6, 8, 8, sample).axes
    frame, _, mask, prediction = (np.asarray(image.get_array()) for image in axis.images)
    np.testing.assert_array_equal(mask[::4, ::4, 0] == 1, ~sample.hidden[1].numpy())  # at the middle cube
    np.testing.assert_allclose(frame, sample.video[:, 2].permute(1, 2, 0), atol=1e-6)
    np.testing.assert_allclose(prediction, 1 - frame, atol=1e-6)


def test_siammae_states_its_ratio_and_what_flatters_the_prediction():
    images = [torch.randn(3, 8, 8) for _ in range(4)]
    assert "95% of patches hidden" in words(diagrams.siammae_figure(*images, 0.95, norm_pix=True))
    assert "contrast the truth's" not in words(diagrams.siammae_figure(*images, 0.5, norm_pix=False))


def test_words_fit_their_boxes():
    figure = diagrams.adamae_figure(1568, 78, 768, 384, small_sample())
    figure.draw_without_rendering()
    (axis,) = figure.axes
    boxes = [patch.get_window_extent() for patch in axis.patches if isinstance(patch, FancyBboxPatch)]
    for text in (text for text in axis.texts if text.get_color() == "white" and text.get_text()):
        inside = text.get_window_extent()
        assert any(
            box.x0 < inside.x0 and inside.x1 < box.x1 and box.y0 < inside.y0 and inside.y1 < box.y1 for box in boxes
        ), text.get_text()
