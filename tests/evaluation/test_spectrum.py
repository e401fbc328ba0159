"""Spectra of waves that are known, power against shared power, sharpness of blurred pictures."""

import math

import pytest
import torch
import torch.nn.functional as F

from lib.errors import UserError
from lib.evaluation.spectrum import radial_spectra, sharpness

SIZE = 32


def wave(cycles_x: int, cycles_y: int = 0, phase: float = 0.0) -> torch.Tensor:
    """One picture of three equal channels."""
    x, y = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="xy")
    angle = 2 * math.pi * (cycles_x * x + cycles_y * y) / SIZE + phase
    return angle.cos().expand(1, 3, SIZE, SIZE)


@pytest.mark.parametrize(("cycles", "ring"), [((1, 0), 1), ((0, 7), 7), ((3, 4), 5), ((15, 0), 15), ((16, 0), 16)])
def test_a_wave_lies_on_its_ring(cycles, ring):
    spectra = radial_spectra(wave(*cycles), wave(*cycles))
    assert spectra.truth.shape == (SIZE // 2,)
    assert int(spectra.truth.argmax()) + 1 == ring and spectra.truth[ring - 1] > 0.999 * spectra.truth.sum()
    torch.testing.assert_close(spectra.truth, spectra.predicted)
    torch.testing.assert_close(spectra.truth, spectra.shared)


def test_power_is_counted_in_full():
    """Parseval: rings times their numbers of frequencies hold the variance, but for mean and corners."""
    torch.manual_seed(0)
    noise = torch.randn(4, 3, SIZE, SIZE)
    cycles = torch.fft.fftfreq(SIZE, 1 / SIZE)
    ring = torch.hypot(cycles[:, None], cycles).round().long()
    inside = (ring > 0) & (ring <= SIZE // 2)
    expected = (torch.fft.fft2(noise.double(), norm="ortho").abs() ** 2)[..., inside].sum(-1).mean()
    numbers = torch.bincount(ring.flatten())[1 : SIZE // 2 + 1]
    assert (radial_spectra(noise, noise).truth * numbers).sum().item() == pytest.approx(expected.item())


def test_shared_power_tells_detail_from_any_detail():
    """Half the contrast shares half; the opposite phase shares less than nothing; noise shares nothing."""
    truth = wave(5)
    half, opposite, quarter = (radial_spectra(image, truth) for image in (truth / 2, -truth, wave(5, 0, math.pi / 2)))
    assert (half.shared / half.truth)[4].item() == pytest.approx(0.5)
    assert (half.predicted / half.truth)[4].item() == pytest.approx(0.25)
    assert (opposite.shared / opposite.truth)[4].item() == pytest.approx(-1)
    assert (quarter.shared / quarter.truth)[4].item() == pytest.approx(0, abs=1e-6)
    torch.manual_seed(0)
    noise = radial_spectra(torch.randn(500, 3, SIZE, SIZE), torch.randn(500, 3, SIZE, SIZE))
    assert (noise.shared / noise.truth).abs().max() < 0.05 and (noise.predicted / noise.truth - 1).abs().max() < 0.05


def test_blur_costs_high_frequencies_and_sharpness():
    torch.manual_seed(0)
    images = torch.rand(8, 3, SIZE, SIZE)
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), "circular"), 3, 1)
    spectra = radial_spectra(blurred, images)
    ratio = spectra.predicted / spectra.truth
    assert ratio[0] > 0.9 and ratio[9] < 0.1
    assert (sharpness(blurred) < 0.1 * sharpness(images)).all()
    assert sharpness(torch.full((2, 3, 8, 8), 0.3)).abs().max() < 1e-12
    assert sharpness(images).shape == (8,)


@pytest.mark.parametrize("shape", [(2, 3, 8, 6), (3, 8, 8), (1, 3, 8, 8)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(UserError, match="both must be"):
        radial_spectra(torch.zeros(2, 3, 8, 8), torch.zeros(shape)) if shape[-1] == 8 else radial_spectra(
            torch.zeros(shape), torch.zeros(shape)
        )
