"""MAE and SiamMAE of several seeds: the notebooks' runs, scored on three tasks."""

from dataclasses import replace

import pytest
import torch

import make
from lib.checkpoints import load_checkpoint
from lib.models.mae import MAE
from lib.models.siammae import SiamMAE
from lib.runtime import seed_everything
from lib.studies import frame_pairs, seeds
from lib.studies.table import wide


def test_seeds_are_trained_and_scored_on_all_tasks(tiny_preset, tiny_world, tmp_path):
    table = seeds.run(tiny_world, tmp_path, None, rows=seeds.ROWS, seeds=1)
    found = wide(table)
    blocks = [f"{name}, block {block}" for name in ("untrained ViT", "MAE", "SiamMAE") for block in (2, 4)]
    assert found["row"].tolist() == ["first annotation, copied", "RGB patches", *blocks]
    assert found["JF_mean"].between(0, 100).all() and found["steps"].isna().tolist() == [True] * 4 + [False] * 4
    words = table.groupby("metric")["conditions"].unique().map(list)
    for name, size in {"JF_mean": "32x64", "mIoU": "32x48", "lost joints, %": "32x48"}.items():
        assert words[name] == [f"protocol crw, temperature 0.05, input {size}"]
    ratios = [load_checkpoint(tmp_path / f"{name}-seed0" / "last.pt")["architecture"] for name in ("MAE", "SiamMAE")]
    assert [architecture["mask_ratio"] for architecture in ratios] == [0.75, tiny_preset.mask_ratio]
    committed = seeds.read_rows(make.ROOT / "figures" / "measured" / "seeds.csv")
    assert [column.replace("row", "method") for column in found] == list(committed)
    assert set(committed["method"]) == set(found["row"]) and set(committed["seed"]) == {0, 1, 2}


@pytest.mark.parametrize("kind", [MAE, SiamMAE])
def test_the_runs_are_those_of_the_notebooks(tiny_preset, tiny_world, tmp_path, kind):
    """The weights at the start are those that the notebooks draw, which look at one batch of the loader before."""
    clips = frame_pairs.training_clips(tiny_world)
    pairs = frame_pairs.training_pairs(tiny_preset, clips, 3, tmp_path / "frames")
    seed_everything(3)
    collate = frame_pairs.data.collate_images if kind is MAE else frame_pairs.data.collate_pairs
    next(iter(frame_pairs.make_loader(pairs, tiny_preset, 3, collate)))
    expected = kind(**tiny_preset.model_arguments()).state_dict()
    frozen = replace(tiny_preset, base_lr=1e-30)
    model, losses = frame_pairs.pretrain(kind, frozen, clips, 3, tmp_path / "run", tmp_path / "frames")
    assert isinstance(model, kind) and len(losses) == tiny_preset.steps(len(clips))
    for name, value in load_checkpoint(tmp_path / "run" / "last.pt")["model"].items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-9)
