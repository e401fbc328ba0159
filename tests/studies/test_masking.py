"""The study of maskings: rows, what is measured of a model with known masks, resumption, fine-tuning."""

import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

import make
from lib import presets
from lib.data.action_clips import ClipReader, TestingViews, TrainingClips
from lib.models.adamae import AdaMAE
from lib.models.classifier import Classifier
from lib.models.video_mae import VideoMAE
from lib.presets.finetuning import FineTuning
from lib.studies import masking as study
from lib.studies.finetuning import class_probabilities, finetune
from lib.studies.grid import choose, run_folder
from lib.studies.table import write_table
from lib.tokens.maskings import TubeMasking
from lib.toyworld import ToyWorldOptions, ensure_toy_world
from lib.toyworld.layers import LayerViews, list_studio

PRESET = presets.get(
    presets.ADAMAE, "toy", embed_dim=32, depth=1, num_heads=2, decoder_embed_dim=16, decoder_depth=1,
    decoder_num_heads=2, sampler_dim=16, epochs=1, warmup_epochs=0, batch_size=4, frame_size=48, image_size=48,
)  # fmt: skip
MEASURED = Path(make.ROOT, "figures", "measured", "masking.csv")


@pytest.fixture(scope="module")
def studio(tmp_path_factory) -> Path:
    options = ToyWorldOptions(datasets=("studio",), studio_train=12, studio_val=3)
    return ensure_toy_world(tmp_path_factory.mktemp("studio") / "world", options, workers=2) / "studio"


def sets(studio: Path) -> tuple:
    return list_studio(studio, "train"), list_studio(studio, "val")


# --- rows ---------------------------------------------------------------------------------------------------


def test_every_row_of_the_papers_table_is_there():
    paper = pd.read_csv(make.ROOT / "figures" / "paper" / "adamae.csv")
    wanted = {f"{row.table} {row.case} {row.ratio:g}" for row in paper.itertuples() if row.case != "700 epochs"}
    names = [row.name for row in study.ROWS]
    assert wanted <= {*names, *study.SAME_AS_DEFAULT}  # 700 epochs: in the text alone
    assert len(set(names)) == len({run_folder(Path(), name, 0) for name in names}) == len(names)


def test_every_row_builds_its_model():
    for row in study.ROWS:
        settings, arguments = row.settings(PRESET)
        model = study.build_model(settings, 0, **arguments)
        assert isinstance(model, AdaMAE) == ("masking" not in row.changes)
        assert f"{model.mask_ratio:g}" == row.name.split()[-1]
        for name, value in row.changes.items():
            if name in model.architecture and name != "masking":
                assert model.architecture[name] == value
        if name := row.changes.get("masking"):
            assert name in str(model.architecture["masking"]).lower()
    one, two, other = (study.build_model(PRESET, seed) for seed in (1, 1, 2))
    same = [torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True)]
    assert all(same) and not torch.equal(one.encoder.patch_embed.proj.weight, other.encoder.patch_embed.proj.weight)


def test_a_row_is_measured_and_a_killed_one_goes_on(studio, tmp_path):
    row = study.ROWS[0]

    def measure() -> dict[str, float]:
        found = study.measure_row(PRESET, sets(studio), tmp_path / "frames", row, 5, tmp_path / "run")
        assert {record["step"] for record in found} == {3} and found[0]["seconds"] > 0
        return {record["metric"]: record["value"] for record in found}

    found = measure()
    assert 0 <= found["probe"] <= 1 and 0 < found["entropy_share"] <= 1 and math.isfinite(found["agreement"])
    state = (tmp_path / "run" / "last.pt").read_bytes()
    assert measure() == found, "killed while it measured: the trained weights are there"
    assert (tmp_path / "run" / "last.pt").read_bytes() == state


def test_an_untrained_row_has_no_steps(studio, tmp_path):
    (row,) = choose(study.ROWS, ["reference untrained 0.95"])
    found = study.measure_row(PRESET, sets(studio), tmp_path / "frames", row, 0, tmp_path / "run")
    assert {record["step"] for record in found} == {0} and not (tmp_path / "run").exists()


def test_the_study_reads_as_the_papers_table(studio, tmp_path, monkeypatch):
    monkeypatch.setitem(presets.ADAMAE, "toy", PRESET)
    rows = [replace(row, length=0) for row in study.ROWS[:2]]  # quick
    table = study.run(studio, tmp_path / "out", 1.0, rows=rows, seeds=2)
    write_table(tmp_path / "t.csv", table)
    found = study.read_rows(tmp_path / "t.csv")
    assert len(found) == 4 + 2 * len(study.SAME_AS_DEFAULT)
    assert set(found["table"]) == {"1a", "1b", "1c", "1d", "1e"} and set(found["ratio"]) == {0.95}
    assert found["case"].tolist()[:5] == ["adaptive", "adaptive", "random", "random", "adaptive"]
    assert {"seed", "steps", "seconds", "motion_probe", "puppet"} <= set(found)


def test_the_committed_rows_are_those_of_the_study():
    found = study.read_rows(MEASURED)
    seeds = found.groupby(["table", "case", "ratio"]).size()
    assert len(found) == 51 and set(seeds) == {1, 3} and found[["puppet", "motion_probe"]].notna().all(axis=None)
    table = pd.read_csv(MEASURED)
    assert set(table["row"]) == {row.name for row in study.ROWS}


# --- measures -----------------------------------------------------------------------------------------------


def test_the_cover_of_regions_by_hand():
    layers = torch.zeros(1, 2, 2, 16, 16)
    layers[0, 0, :, :, :8] = 1  # the left half of all frames
    layers[0, 1, 0, :8, 8:] = 1  # the upper right quarter of the first frame
    cover = study.region_cover(layers, tubelet_size=2, patch_size=8)
    assert cover.shape == (1, 4, 2)  # cubes: upper left, upper right, lower left, lower right
    assert cover[0, :, 0].tolist() == [1, 0, 1, 0] and cover[0, :, 1].tolist() == [0, 0.5, 0, 0]


def test_mean_errors_count_hidden_draws_only(monkeypatch):
    monkeypatch.setattr(study, "DRAWS", 3)
    torch.manual_seed(0)
    arguments = PRESET.architecture() | {"mask_ratio": 0.9}
    model = VideoMAE(masking=TubeMasking(0.9), **arguments).eval()
    errors, seen = study.mean_errors(model, torch.randint(0, 256, (2, 3, 16, 48, 48), dtype=torch.uint8))
    assert errors.shape == seen.shape == (2, 288)
    assert torch.equal(errors.isnan(), seen == 1)  # never hidden: no error is known
    assert seen.mean() == pytest.approx(3 / 36, abs=1e-6)  # three of 36 columns


def test_random_masks_lie_at_chance_and_a_sampler_that_knows_is_found_out(studio, monkeypatch):
    monkeypatch.setattr(study, "DRAWS", 60)
    views = LayerViews(list_studio(studio, "val"), ClipReader(16, 2, 48), 48)
    torch.manual_seed(0)
    model = VideoMAE(**PRESET.architecture()).eval()
    found = study.focus(model, views)
    assert all(found[layer] == pytest.approx(1, abs=0.2) for layer in ("wall", "puppet", "poster"))
    assert set(found) == {"wall", "puppet", "poster", "puppet_error", "poster_error", "agreement", "error"}
    where = study.region_cover(torch.stack([views[i]["layers"] for i in range(3)]), 2, 8)[..., 1]
    sampler = AdaMAE(**PRESET.sampler() | PRESET.architecture()).eval()
    sampler.masking.log_probs = lambda tokens: (where + 1e-6).log().log_softmax(-1)
    assert study.focus(sampler, views)["puppet"] > 3


# --- fine-tuning --------------------------------------------------------------------------------------------


def test_fine_tuning_changes_the_encoder_and_counts_videos_not_views(studio, tmp_path):
    reader = ClipReader(16, 2, 48)
    train_set, test_set = sets(studio)
    model = study.build_model(PRESET, 0)
    before = model.encoder.blocks[0].attn.qkv.weight.clone()
    clips = TrainingClips(train_set, reader, 48, (0.5, 1.0), seed=1)
    recipe = FineTuning(base_lr=0.05, epochs=1, batch_size=4, warmup_epochs=0, workers=0)
    views = TestingViews(test_set, reader, 48, clips=2, crops=3)
    found = finetune(model, recipe, clips, views, tmp_path / "run")
    assert not torch.equal(before, model.encoder.blocks[0].attn.qkv.weight)
    assert found["top1"] * 3 == pytest.approx(round(found["top1"] * 3)) and found["top1"] <= found["top5"]
    assert found["low"] <= found["top1"] <= found["high"] and found["high"] - found["low"] > 0.3  # three videos


def test_probabilities_are_those_of_evaluation():
    torch.manual_seed(0)
    model = Classifier(study.build_model(PRESET, 0), 32, 5, drop_path=0.9).train()
    batch = {"video": torch.randint(0, 256, (4, 3, 16, 48, 48), dtype=torch.uint8), "label": torch.arange(4)}
    first, labels = class_probabilities(model, [batch, batch])
    assert not model.training and not first.requires_grad and first.shape == (8, 5)
    torch.testing.assert_close(first.sum(dim=1), torch.ones(8))
    assert torch.equal(first, class_probabilities(model, [batch, batch])[0])  # no drop path
    assert labels.tolist() == [0, 1, 2, 3] * 2
