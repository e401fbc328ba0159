"""Presets: all can be built, the paper's are the paper's, and a wrong word or value is told at once."""

from dataclasses import FrozenInstanceError, fields, replace

import pytest
import torch

from lib.errors import UserError
from lib.models.mae import MAE
from lib.models.siammae import SiamMAE
from lib.models.vit import vit_size
from lib.presets.frame_pairs import PRESETS, Preset, compare_presets, get_preset


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds_both_models(name):
    preset = get_preset(name)
    arguments = preset.model_arguments(vit_size(preset.encoder))
    with torch.device("meta"):
        siammae = SiamMAE(**arguments, mask_ratio=preset.mask_ratio)
        mae = MAE(**arguments, mask_ratio=preset.mae_mask_ratio)
    assert siammae.architecture == {**siammae.architecture, **arguments, "mask_ratio": preset.mask_ratio}
    depth = len(mae.encoder.blocks)
    assert all(block == -1 or 1 <= block <= depth for block in preset.blocks)
    for height, width in filter(None, [preset.eval_size]):
        assert mae.features(torch.zeros(1, 3, height, width, device="meta")).shape[1] == arguments["embed_dim"]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_gives_a_run_with_a_warmup(name):
    preset = get_preset(name)
    for clips in (1, 64, 240_000):
        assert 1 <= preset.warmup_steps(clips) <= preset.steps(clips)
    assert preset.frame_size is None or preset.frame_size >= preset.image_size


def test_the_paper_preset_is_table_4():
    paper = get_preset("paper")
    assert paper == Preset()
    table = {
        "base_lr": 1.5e-4, "weight_decay": 0.05, "warmup_epochs": 40, "epochs": 2000, "repeated_sampling": 2,
        "crop_scale": (0.5, 1.0), "batch_size": 2048, "gap": (4, 48), "mask_ratio": 0.95, "image_size": 224,
        "patch_size": 16, "encoder": "small",
    }  # fmt: skip
    assert {name: getattr(paper, name) for name in table} == table


def test_steps_and_warmup_by_hand():
    preset = replace(Preset(), epochs=100, repeated_sampling=2, batch_size=64, warmup_epochs=5)
    assert preset.steps(320) == 1000  # 100 epochs * 320 clips * 2 pairs / 64
    assert preset.warmup_steps(320) == 50
    assert preset.steps(10) == 31  # 31.25
    assert preset.warmup_steps(10) == 2  # 1.55, rounded up
    assert replace(preset, epochs=0.001).steps(10) == 1
    assert replace(preset, epochs=10).warmup_steps(320) == 10  # 5 of 10 epochs, but at most a tenth of 100 steps
    assert replace(preset, warmup_epochs=0).warmup_steps(320) == 0
    # The paper's: 240,436 clips, 40 of 2000 epochs.
    assert Preset().steps(240_436) == 469_602 and Preset().warmup_steps(240_436) == 9393


def test_near_misses_are_named():
    with pytest.raises(UserError, match="^unknown preset 'toi': did you mean 'toy'[?] choose one of colab, laptop, "):
        get_preset("toi")
    with pytest.raises(UserError, match="^unknown setting 'epoch': did you mean 'epochs'"):
        get_preset("toy", epoch=3)
    with pytest.raises(UserError, match="^unknown preset 'qqq': choose one of "):
        get_preset("qqq")


def test_overrides():
    assert get_preset("toy", epochs=None, base_lr=None) == PRESETS["toy"]
    assert get_preset("toy", epochs=3).epochs == 3 and PRESETS["toy"].epochs != 3
    from_json = get_preset("toy", blocks=[1, 2], gap=[4, 8])
    assert from_json.blocks == (1, 2) and from_json.gap == (4, 8)
    assert hash(from_json) == hash(get_preset("toy", blocks=(1, 2), gap=(4, 8)))
    with pytest.raises(FrozenInstanceError):
        from_json.epochs = 4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 0}, "^epochs is 0: "),
        ({"batch_size": -4}, "^batch_size is -4: "),
        ({"base_lr": float("nan")}, "^base_lr is nan: "),
        ({"epochs": "ten"}, "^epochs is ten: "),
        ({"save_every": "5"}, "^save_every is 5: "),
        ({"batch_size": 64.5}, "^batch_size is 64.5: "),
        ({"batch_size": 63, "repeated_sampling": 2}, "^batch_size 63 is no multiple of .* = 2: "),
        ({"batch_size": 64, "repeated_sampling": 2, "accumulation": 5}, "^batch_size 64 is no multiple of .* = 10: "),
        ({"warmup_epochs": -1}, "^warmup_epochs is -1: "),
    ],
)
def test_values_that_cannot_work_are_refused_in_one_line(settings, words):
    with pytest.raises(UserError, match=words + "[^\n]+$"):
        get_preset("toy", **settings)


def test_presets_side_by_side():
    rows = compare_presets("toy", "paper")
    assert [row["setting"] for row in rows] == [field.name for field in fields(Preset)]
    assert all(set(row) == {"setting", "toy", "paper"} for row in rows)
    (batch,) = [row for row in rows if row["setting"] == "batch_size"]
    assert batch == {"setting": "batch_size", "toy": PRESETS["toy"].batch_size, "paper": 2048}
    with pytest.raises(UserError, match="unknown preset 'pepper'"):
        compare_presets("pepper")
