"""Presets of the frame-pair systems: every one builds both models, and the paper's is the paper's."""

from pathlib import Path

import pytest
import torch

from lib.data.augmentation import Augmentation
from lib.data.clips import FramePairs
from lib.data.video import Clip, VideoInfo
from lib.errors import UserError
from lib.evaluation.protocols import input_size
from lib.models.mae import MAE
from lib.models.siammae import SiamMAE
from lib.presets import MAE as MAE_PRESETS
from lib.presets import SIAMMAE, get, run_name
from lib.presets.frame_pairs import VIT_SIZES
from lib.studies.frame_pairs import augmentation_of, training_pairs
from lib.studies.three_tasks import protocols_of


@pytest.mark.parametrize("name", SIAMMAE)
def test_every_preset_builds_both_models_and_their_pairs(name):
    for system, presets in ((SiamMAE, SIAMMAE), (MAE, MAE_PRESETS)):
        preset = presets[name]
        arguments = preset.model_arguments()
        with torch.device("meta"):
            model = system(**arguments)
        assert {**model.architecture, **arguments} == model.architecture
        depth = len(model.encoder.blocks)
        assert all(block == -1 or 1 <= block <= depth for block in preset.blocks)
        for height, width in filter(None, [preset.eval_size]):
            assert model.features(torch.zeros(1, 3, height, width, device="meta")).shape[1] == arguments["embed_dim"]
        clip = Clip("a.mp4", VideoInfo(300, 30.0, 240, 320))
        assert FramePairs([clip], **preset.pair_arguments()).gap == preset.gap
        assert preset.frame_size is None or preset.frame_size >= preset.image_size


@pytest.mark.parametrize("name", SIAMMAE)
def test_every_preset_can_be_scored_on_every_task_of_its_protocol(name):
    for task, protocol in protocols_of(SIAMMAE[name]).items():
        assert input_size((240, 320), SIAMMAE[name].patch_size, protocol), task


def test_the_paper_preset_is_table_4():
    table = {
        "base_lr": 1.5e-4, "weight_decay": 0.05, "warmup_epochs": 40, "epochs": 2000, "repeated_sampling": 2,
        "crop_scale": (0.5, 1.0), "batch_size": 2048, "gap": (4, 48), "mask_ratio": 0.95, "image_size": 224,
        "patch_size": 16, "encoder": "small", "betas": (0.9, 0.95), "norm_pix": True,
    }  # fmt: skip
    assert {name: getattr(SIAMMAE["paper"], name) for name in table} == table
    assert {preset.mask_ratio for preset in MAE_PRESETS.values()} == {0.75}


def test_augmentations_are_settings_that_reach_the_pairs_and_name_the_run():
    clips = [Clip("a.mp4", VideoInfo(300, 30.0, 240, 320))]
    for preset in SIAMMAE.values():
        assert FramePairs(clips, **preset.pair_arguments()).flip and augmentation_of(preset) is None
    changes = {"flip": False, "rotation": 20, "color_jitter": 0.4, "future_alone": True, "second_crop": [0.3, 1.0]}
    settings = get(SIAMMAE, "toy", **changes)
    pairs = training_pairs(settings, clips, 0, Path("frames"))
    assert not pairs.flip and pairs.augment == Augmentation(20.0, 0.4, True, (0.3, 1.0))
    assert augmentation_of(get(SIAMMAE, "toy", future_alone=True)) is None, "of nothing"
    words = "flipFalse-rotation20-color_jitter0.4-future_aloneTrue-second_crop0.3,1"
    assert run_name("siammae", SIAMMAE, "toy", settings, 0) == f"siammae-{words}-seed0"
    for name, value in (("second_crop", 0.3), ("rotation", "much"), ("flip", 1)):
        with pytest.raises(UserError, match=f"^{name} is {value!r}: it must be "):
            get(SIAMMAE, "toy", **{name: value})


def test_encoders_have_the_fields_sizes_and_near_misses_are_named():
    assert VIT_SIZES["small"] == {"embed_dim": 384, "depth": 12, "num_heads": 6}
    assert VIT_SIZES["base"] == {"embed_dim": 768, "depth": 12, "num_heads": 12}
    with pytest.raises(UserError, match="unknown encoder 'smal': did you mean 'small'"):
        get(SIAMMAE, "toy", encoder="smal")
