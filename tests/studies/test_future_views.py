"""Curves and pictures of several frames: bands over seeds, where painting overtakes copying, rows of one past."""

import numpy as np
import pandas as pd
import pytest
import torch

from lib.data.futures import Futures
from lib.models.several_frames import SeveralFrames
from lib.studies import future_views as views
from lib.studies.futures import own_masks
from lib.studies.uncertainty_data import GAPS


def test_bands_hold_mean_and_ends_of_the_seeds():
    lines = pd.DataFrame(
        [{"row": name, "seed": s, **{f"pixels +{gap}": gap + s for gap in GAPS}} for name in "ab" for s in range(3)]
    )
    found = views.bands(lines, "pixels", {"b": "words"})
    assert list(found) == ["words"]
    for band, shift in zip(found["words"], (1, 0, 2), strict=True):
        assert band.tolist() == [gap + shift for gap in GAPS]


@pytest.mark.parametrize(
    ("ours", "first"),
    [([3, 3, 1], 2), ([1, 1, 1], 0), ([1, 3, 1], 2), ([3, 3, 3], None), ([1, 1, 3], None), ([3, 1, 1], 1)],
)
def test_painting_overtakes_for_good(ours, first):
    band = np.array(ours, float)
    found = views.crossing((band,) * 3, (np.full(3, 2.0),) * 3)
    assert found == (None if first is None else GAPS[first])


def test_rows_show_the_truth_where_it_is_seen():
    torch.manual_seed(0)
    frames = torch.randint(0, 256, (1, 1 + 3 + 3, 3, 16, 16), dtype=torch.uint8)
    futures = Futures(frames[:, 0], frames[:, 1:4], (4, 8, 12), 1, earlier=frames[:, 4:], ages=(4, 8, 12))
    split = own_masks(futures, patch_size=4, mask_ratio=0.75)
    model = SeveralFrames(
        image_size=16, patch_size=4, embed_dim=16, depth=1, num_heads=2, decoder_embed_dim=16, decoder_depth=1,
        decoder_num_heads=2, norm_pix=False, mask_ratio=0.75,
    ).eval()  # fmt: skip
    rows = views.picture_rows({"at once": (model, 3, False), "rolled": (model, 1, True)}, split, [0, 2])
    assert list(rows) == ["truth", "seen", "at once", "rolled", "copy of the past", "linear flow"]
    assert all(len(row) == 3 for row in rows.values()) and rows["rolled"][0] is None
    for name in ("seen", "at once", "rolled"):
        for picture, truth, number in zip(rows[name][1:], rows["truth"][1:], (0, 2), strict=True):
            seen = ~split.mask.hidden[0, number].view(4, 4).repeat_interleave(4, 0).repeat_interleave(4, 1)
            assert torch.equal(picture[:, seen], truth[:, seen])
            assert not torch.equal(picture, truth)
    assert torch.equal(rows["copy of the past"][2], rows["truth"][0])
