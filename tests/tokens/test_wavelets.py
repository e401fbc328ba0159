"""Haar's transform against PyWavelets and by hand; inverses; what has no four sub-bands is refused."""

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import UserError
from lib.tokens.wavelets import TRANSFORMS, haar, inverse_haar, regroup

sizes = st.integers(1, 9).map(lambda half: 2 * half)


@given(batch=st.integers(1, 3), channels=st.integers(1, 5), height=sizes, width=sizes, seed=st.integers(0, 2**31))
@pytest.mark.parametrize("name", TRANSFORMS)
def test_inverses_give_the_map_back_and_lengths_stay(name, batch, channels, height, width, seed):
    split, join = TRANSFORMS[name]
    maps = torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(seed))
    bands = split(maps)
    assert bands.shape == (batch, 4 * channels, height // 2, width // 2)
    torch.testing.assert_close(join(bands), maps, rtol=0, atol=1e-6)
    torch.testing.assert_close(split(join(bands)), bands, rtol=0, atol=1e-6)
    torch.testing.assert_close(bands.norm(), maps.norm())


@given(height=sizes, width=sizes, seed=st.integers(0, 2**31))
def test_both_ways_equal_pywavelets(height, width, seed):
    maps = np.random.default_rng(seed).standard_normal((2, 3, height, width))
    average, details = pywt.dwt2(maps, "haar")
    expected = torch.from_numpy(np.stack([average, *details], axis=1)).flatten(1, 2)  # (2, 4, 3, ...): bands first
    torch.testing.assert_close(haar(torch.from_numpy(maps)), expected)
    bands = np.random.default_rng(seed + 1).standard_normal((2, 4, 3, height // 2, width // 2))
    back = pywt.idwt2((bands[:, 0], (bands[:, 1], bands[:, 2], bands[:, 3])), "haar")
    torch.testing.assert_close(inverse_haar(torch.from_numpy(bands).flatten(1, 2)), torch.from_numpy(back))


def test_a_cell_by_hand():
    cell = torch.tensor([[8.0, 4.0], [2.0, 0.0]])[None, None]
    assert haar(cell).flatten().tolist() == [7, 5, 3, 1]
    assert regroup(cell).flatten().tolist() == [8, 4, 2, 0]


@pytest.mark.parametrize("name", TRANSFORMS)
def test_odd_sides_and_channels_that_are_no_four_bands_are_refused(name):
    split, join = TRANSFORMS[name]
    for size in ((3, 4), (4, 5)):
        with pytest.raises(UserError, match=f"{size[0]}x{size[1]}.*even"):
            split(torch.zeros(1, 2, *size))
    with pytest.raises(UserError, match="6 channels"):
        join(torch.zeros(1, 6, 2, 2))
