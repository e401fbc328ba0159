"""Views of trained encoders: losses and frames that are meant, attention where it is, motion that is followed."""

from functools import partial

import numpy as np
import pytest
import torch
from make_davis import make_davis, write_png
from make_jhmdb import joints_of, make_jhmdb
from PIL import Image

from lib.data.davis import DavisDataset
from lib.data.jhmdb import JhmdbDataset
from lib.evaluation.protocols import get_protocol
from lib.models.siammae import SiamMAE
from lib.models.vit import ViTEncoder
from lib.score.jhmdb import write_joints
from lib.studies import siammae_views as views
from lib.studies.siammae_views import excerpt, head_maps, losses_by_past, match
from lib.tokens.patches import normalize_images, target_patches
from lib.toyworld.flow import flow_path

SIZE, CELL, LENGTH = (24, 48), 4, 6
PROTOCOL = get_protocol("crw", input_size=SIZE)


def test_losses_are_those_of_the_hidden_patches_of_each_clip():
    generator = torch.Generator().manual_seed(0)
    names = ("past", "future")
    pairs = [{name: torch.randint(256, (1, 3, 32, 32), generator=generator).byte() for name in names} for _ in range(3)]
    torch.manual_seed(0)
    model = SiamMAE(
        image_size=32, patch_size=8, embed_dim=16, depth=1, num_heads=2, decoder_embed_dim=16, decoder_depth=1,
        decoder_num_heads=2, mask_ratio=0.75,
    ).eval()  # fmt: skip
    found = losses_by_past(model, pairs, draws=1, seed=5).pivot(index="clip", columns="prediction from", values="loss")
    past, future = (normalize_images(torch.cat([pair[name] for pair in pairs])) for name in names)
    torch.manual_seed(5)
    with torch.no_grad():
        prediction, mask = model.predict(past, future)
    errors = (prediction - target_patches(future, 8, model.norm_pix)).square().mean(2)
    expected = [float(error[hidden].mean()) for error, hidden in zip(errors, mask.hidden, strict=True)]
    assert found["true past"].tolist() == pytest.approx(expected, rel=1e-5)
    assert found["true past"].tolist() != found["another clip's past"].tolist() and len(found.columns) == 6


def test_masks_are_those_of_the_times_and_unknown_ids_are_background(tmp_path, monkeypatch):
    monkeypatch.setattr(views, "FRAMES", 3)
    truth = np.zeros((9, 8, 8), np.uint8)
    for t in range(9):
        truth[t, t % 8] = 1
    truth[4, 7] = 2  # appears later: frame 0 does not show it
    make_davis(tmp_path / "davis", {"a": truth[:3], "b": truth})
    for t in range(9):
        write_png(tmp_path / "out" / "b" / f"{t:05d}.png", truth[(t + 1) % 9])
    dataset = DavisDataset(tmp_path / "davis")
    times, real, predicted = excerpt(dataset, 1, tmp_path / "out")
    assert times.tolist() == [0, 4, 8]
    for t, mine, theirs in zip(times, real, predicted, strict=True):
        np.testing.assert_array_equal(mine, truth[t] == 1)
        np.testing.assert_array_equal(theirs, truth[(t + 1) % 9] == 1)
    assert excerpt(dataset, 1, tmp_path / "out", max_frames=5)[0].tolist() == [0, 2, 4]


def test_joints_are_those_of_the_clip(tmp_path, monkeypatch):
    monkeypatch.setattr(views, "FRAMES", 2)
    dataset = JhmdbDataset(make_jhmdb(tmp_path / "jhmdb"))
    (tmp_path / "out").mkdir()
    for index, clip in enumerate(dataset):
        write_joints(tmp_path / "out" / f"{index}.dat", clip.joints() + index, (24, 40))
    times, truth, predicted = excerpt(dataset, -1, tmp_path / "out")
    assert times.tolist() == [0, 4]
    np.testing.assert_allclose(truth, joints_of(1)[[0, 4]])  # walk/a, the last of the list
    np.testing.assert_allclose(predicted, truth + len(dataset) - 1, atol=1e-4)


def test_attention_is_that_of_the_patch_in_multiples_of_uniform():
    torch.manual_seed(0)
    encoder = ViTEncoder(image_size=32, patch_size=8, embed_dim=16, depth=1, num_heads=2).eval()
    encoder.blocks[-1].attn.qkv.weight.data.mul_(30)  # far from uniform
    frame = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    look = partial(head_maps, encoder, frame, get_protocol("crw", input_size=(32, 48)))
    maps = look((0.99, 0.0))
    assert maps.shape == (2, 4, 6) and np.array_equal(maps, look((0.8, 0.16)))  # one patch of 4 x 6
    assert not np.allclose(maps, look((0.99, 0.17)), atol=0.1) and not np.allclose(maps, look("cls"), atol=0.1)
    encoder.blocks[-1].attn.qkv.weight.data.zero_()  # every token looks at all 25 alike
    np.testing.assert_allclose(look("cls"), 24 / 25, rtol=1e-5)


@pytest.fixture
def davis(tmp_path) -> DavisDataset:
    """A texture that moves by a cell and a half to the right in each frame; each cell's colours are its own."""
    make_davis(tmp_path, {"a": np.ones((LENGTH, *SIZE), np.uint8)})
    wide = np.random.default_rng(0).integers(0, 256, (SIZE[0], SIZE[1] + 6 * LENGTH, 3)).astype(np.uint8)
    for t in range(LENGTH):
        start = 6 * (LENGTH - t)
        Image.fromarray(wide[:, start : start + SIZE[1]]).save(tmp_path / f"JPEGImages/480p/a/{t:05d}.jpg", quality=100)
        if t + 1 < LENGTH:
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
    monkeypatch.setattr(views, "GAPS", (2, 4))
    monkeypatch.setattr(views, "STARTS", (0, 1, 9))
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
    monkeypatch.setattr(views, "GAPS", (4,))
    monkeypatch.setattr(views, "STARTS", (0, 1))
    rows = match(davis, {"colours": (colours, CELL)}, PROTOCOL)
    monkeypatch.setattr(views, "STARTS", (0, 2))
    fewer = match(davis, {"colours": (colours, CELL)}, PROTOCOL)
    assert rows["cells"].iloc[0] == 2 * fewer["cells"].iloc[0]
