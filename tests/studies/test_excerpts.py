"""What pictures show: the frames that are meant, ids that mean the same, attention where it is."""

from functools import partial

import numpy as np
import torch
from make_davis import make_davis, write_png
from make_jhmdb import joints_of, make_jhmdb

from lib.data.davis import DavisDataset
from lib.data.jhmdb import JhmdbDataset
from lib.evaluation.protocols import get_protocol
from lib.models.vit import ViTEncoder
from lib.score.jhmdb import write_joints
from lib.studies import excerpts
from lib.studies.excerpts import excerpt, head_maps


def test_masks_are_those_of_the_times_and_unknown_ids_are_background(tmp_path, monkeypatch):
    monkeypatch.setattr(excerpts, "FRAMES", 3)
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
    monkeypatch.setattr(excerpts, "FRAMES", 2)
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
