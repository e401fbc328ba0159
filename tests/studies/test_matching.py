"""Cells matched on true flow: a motion that features show is followed, and nothing else is."""

import numpy as np
import pytest
import torch
from make_davis import make_davis
from PIL import Image

from lib.data.davis import DavisDataset
from lib.evaluation.protocols import get_protocol
from lib.studies import matching
from lib.studies.matching import match
from lib.toyworld.flow import flow_path

SIZE, CELL, FRAMES = (24, 48), 4, 6
PROTOCOL = get_protocol("crw", input_size=SIZE)


@pytest.fixture
def davis(tmp_path) -> DavisDataset:
    """A texture that moves by a cell and a half to the right in each frame; each cell's colours are its own."""
    make_davis(tmp_path, {"a": np.ones((FRAMES, *SIZE), np.uint8)})
    wide = np.random.default_rng(0).integers(0, 256, (SIZE[0], SIZE[1] + 6 * FRAMES, 3)).astype(np.uint8)
    for t in range(FRAMES):
        start = 6 * (FRAMES - t)
        Image.fromarray(wide[:, start : start + SIZE[1]]).save(tmp_path / f"JPEGImages/480p/a/{t:05d}.jpg", quality=100)
        if t + 1 < FRAMES:
            path = flow_path(tmp_path, "a", t)
            path.parent.mkdir(parents=True, exist_ok=True)
            flow = np.zeros((*SIZE, 2), np.float16)
            flow[..., 0] = 6
            np.savez(path, flow=flow, visible=np.arange(SIZE[1])[None].repeat(SIZE[0], 0) < SIZE[1] - 6)
    return DavisDataset(tmp_path)


def colours(images: torch.Tensor) -> torch.Tensor:
    """All pixels of a cell."""
    return torch.nn.functional.pixel_unshuffle(images, CELL)


def test_what_moves_by_whole_cells_is_found_and_baselines_come_last(davis, monkeypatch):
    monkeypatch.setattr(matching, "GAPS", (2, 4))
    monkeypatch.setattr(matching, "STARTS", (0, 1, 9))
    features = {"colours": (colours, CELL), "blind": (lambda x: torch.ones(len(x), 1, 6, 12), CELL)}
    rows = match(davis, features, PROTOCOL)
    assert list(dict.fromkeys(rows["method"])) == [
        "colours", "blind", "nothing moves", "random match", "best possible cell"
    ]  # fmt: skip
    found = rows.set_index(["method", "gap"])
    # 12 pixels in two frames are three cells, of which 9 columns stay in the picture; there are two pairs
    assert found.loc[("colours", 2), "cells"] == 2 * 6 * 9 and found.loc[("colours", 4), "cells"] == 2 * 6 * 6
    assert found.loc["colours"]["share_within_cell"].tolist() == [100, 100]
    assert found.loc["colours"]["end_point_error"].tolist() == [0, 0]
    assert found.loc["nothing moves"]["end_point_error"].tolist() == [12, 24]
    assert (found.loc["blind"] == found.loc["nothing moves"]).all().all(), "of equals the nearest"
    assert found.loc["best possible cell"]["end_point_error"].tolist() == [0, 0]


def test_a_pair_must_lie_within_the_sequence(davis, monkeypatch):
    monkeypatch.setattr(matching, "GAPS", (4,))
    monkeypatch.setattr(matching, "STARTS", (0, 1))
    rows = match(davis, {"colours": (colours, CELL)}, PROTOCOL)
    monkeypatch.setattr(matching, "STARTS", (0, 2))
    fewer = match(davis, {"colours": (colours, CELL)}, PROTOCOL)
    assert rows["cells"].iloc[0] == 2 * fewer["cells"].iloc[0]
