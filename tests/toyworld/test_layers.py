"""The studio's videos and layers: labels, one crop for both, and what is missing or damaged."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lib.data.action_clips import ClipReader
from lib.errors import UserError
from lib.toyworld import ToyWorldOptions, ensure_toy_world
from lib.toyworld.layers import LayerViews, list_studio
from lib.toyworld.studio import PUPPET, WALL

READER = ClipReader(num_frames=16, stride=2)


@pytest.fixture(scope="module")
def studio(tmp_path_factory) -> Path:
    options = ToyWorldOptions(datasets=("studio",), studio_train=1, studio_val=2)
    return ensure_toy_world(tmp_path_factory.mktemp("studio") / "world", options, workers=1) / "studio"


def test_labels_count_from_the_class_list(studio):
    train, val = (list_studio(studio, split) for split in ("train", "val"))
    assert [[video.label for video in actions.videos] for actions in (train, val)] == [[2], [0, 1]]
    assert val.classes[1] == "jumping jacks" and val.mirrored


@pytest.mark.parametrize("frame_size", [None, 48])
def test_layers_and_frames_show_the_same_crop(studio, frame_size):
    views = LayerViews(list_studio(studio, "val"), ClipReader(16, 2, frame_size), image_size=48)
    assert len(views) == 2
    sample = views[1]
    layers = sample["layers"]
    assert sample["video"].shape == layers.shape == (3, 16, 48, 48) and sample["label"] == 1
    assert torch.allclose(layers.sum(0), torch.ones(16, 48, 48), atol=1e-5)
    ids = np.stack([np.asarray(Image.open(studio / f"layers/val_0001/{t:05d}.png")) for t in range(5, 36, 2)])
    middle = ids[:, :, 16:112].reshape(16, 48, 2, 48, 2)  # 40 frames: a clip of 31 starts at 4.5, rounded up
    assert torch.equal(layers[PUPPET], torch.from_numpy((middle == PUPPET).mean((2, 4))).float())
    still = layers[WALL].amin(0) == 1  # wall in every frame: the video does not change there
    changes = sample["video"].float().std(1)
    assert changes[:, still].mean() < 1 and changes[:, ~still].max() > 20


def test_what_is_missing_or_damaged_is_named(studio, tmp_path):
    with pytest.raises(UserError, match="val.txt: no such file"):
        (tmp_path / "classes.txt").write_text("one\n")
        list_studio(tmp_path, "val")
    actions = list_studio(studio, "val")
    with pytest.raises(UserError, match="layers.*00000.png|layers.*no such file|layers"):
        LayerViews(list_studio(studio, "train"), READER, 48)[0]
    picture = studio / "layers" / "val_0000" / "00005.png"
    good = picture.read_bytes()
    try:
        Image.fromarray(np.full((96, 128), 7, np.uint8)).save(picture)
        with pytest.raises(UserError, match="holds a layer 7"):
            LayerViews(actions, READER, 48)[0]
    finally:
        picture.write_bytes(good)
