"""The ablations: every row changes what its name says, all see as many pairs, each is trained and scored."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from lib import presets
from lib.data.clips import FramePairs
from lib.data.video import Clip, VideoInfo
from lib.models.designs import DesignedSiamMAE
from lib.models.mae import MAE
from lib.models.siammae import SiamMAE
from lib.studies import ablations as study
from lib.studies.grid import Row, choose, run_folder
from lib.studies.table import wide

BASE = study.SCALES["toy"]
CLIPS = [Clip(f"{number}.mp4", VideoInfo(75, 30.0, 144, 192)) for number in range(49)]  # as the toy world has them


def given(monkeypatch, row: Row, tmp_path, base=BASE) -> tuple[type, presets.Schedule, dict]:
    """What `measure_row` trains the row's model with, without training it."""
    seen, folder = [], tmp_path / "run"

    def remember(kind, settings, clips, seed, folder, frames, **arguments):
        seen.append((kind, settings, arguments))
        return kind(**settings.model_arguments() | arguments), []

    monkeypatch.setattr(study, "pretrain", remember)
    monkeypatch.setattr(study.three_tasks, "scores_of", lambda *_: {"JF_mean": 1.0})
    folder.mkdir()
    found = study.measure_row(base, CLIPS, {}, tmp_path / "frames", row, 0, folder)
    assert {record["metric"] for record in found} == {"JF_mean", "parameters"} and not folder.exists()
    return seen[0]


def batch(settings, number: int = 2) -> dict[str, torch.Tensor]:
    size = (number, 3, settings.image_size, settings.image_size)
    return {name: torch.randint(256, size, dtype=torch.uint8) for name in ("past", "future", "image")}


# --- rows ---------------------------------------------------------------------------------------------------


def test_rows_have_names_and_files_of_their_own():
    names = [row.name for row in study.ROWS]
    assert len(study.ROWS) == 1 + sum(map(len, study.TABLES.values())) >= 41
    assert len(set(names)) == len({run_folder(Path(), name, 0) for name in names}) == len(names)
    assert {*study.REAL, *study.SHORT, *study.SHORT.values()} <= set(names)
    assert len(study.SHORT) == len(study.TABLES["full length"])


@pytest.mark.parametrize("row", [row for row in study.ROWS if row.length], ids=lambda row: row.name)
def test_every_row_trains_a_model_that_differs_as_its_name_says(row, tmp_path, monkeypatch):
    kind, settings, arguments = given(monkeypatch, row, tmp_path)
    model = kind(**settings.model_arguments() | arguments)
    assert kind is (row.model or SiamMAE)
    for name, value in row.changes.items():
        if name == "masking":
            assert model.architecture["masking"]["name"].lower() == f"{value}masking"
        elif name != "whole_batch":
            assert asdict(settings).get(name, model.architecture.get(name)) == value
    own = {"epochs", "warmup_epochs"}  # which follow from the row's length
    own |= {"batch_size", "base_lr"} if "whole_batch" in row.changes else set()
    same = {name: value for name, value in asdict(BASE).items() if name not in own and name not in row.changes}
    assert {name: getattr(settings, name) for name in same} == same, "all else is the default's"
    assert FramePairs(CLIPS, **settings.pair_arguments()).gap == settings.gap
    if kind is DesignedSiamMAE or "masking" in row.changes:
        loss, _ = model(batch(settings))
        loss.backward()
        assert loss.isfinite()


def test_ordinary_rows_see_as_many_pairs_and_as_many_in_the_warm_up():
    pairs = {row.name: study.settings_of(BASE, row)[0] for row in study.ROWS if row.length}
    whole = {row.name for row in study.TABLES["full length"]}
    number, warm_up = BASE.steps(49) * BASE.batch_size, BASE.warmup_steps(49)
    for name, settings in pairs.items():
        seen = settings.steps(49) * settings.batch_size
        assert seen == (2 * number if name in whole else number), name
        assert abs(settings.warmup_steps(49) - warm_up) <= 1, name
        assert settings.base_lr * settings.batch_size == pytest.approx(BASE.base_lr * BASE.batch_size), name


def test_full_length_is_the_preset_itself():
    (row,) = choose(study.ROWS, ["full length, default"])
    settings, toy = study.settings_of(BASE, row)[0], presets.SIAMMAE["toy"]
    assert {**asdict(settings), "eval_frames": None, "blocks": toy.blocks} == asdict(toy)
    assert BASE.steps(49) == toy.steps(49) and 2 * BASE.batch_size == toy.batch_size
    for short, long in study.SHORT.items():
        one, two = choose(study.ROWS, [short, long])
        assert {name: two.changes.get(name) for name in one.changes} == one.changes and one.model == two.model


@pytest.mark.parametrize("preset", study.SCALES)
def test_every_scale_takes_every_row(preset):
    base = study.SCALES[preset]
    for row in study.ROWS:
        settings, arguments = study.settings_of(base, row)
        assert settings.steps(20) > 1 and set(arguments) <= {
            "masking", "encoder_design", "decoder_design", "past_mask_ratio",
        }  # fmt: skip


# --- the study ----------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(tiny_preset, monkeypatch):
    """Scored at one block, on few frames, after few steps."""
    scale = replace(tiny_preset, batch_size=4, eval_frames=8, blocks=(-1,))
    monkeypatch.setitem(study.SCALES, "toy", scale)
    return study.SCALES["toy"]


def test_rows_are_trained_and_scored_and_leave_no_weights(tiny, tiny_world, tmp_path):
    names = ["default", "MAE, single frames, ratio 0.75", "grid", "siamese encoder, joint decoder", "untrained"]
    table = study.run(tiny_world, tmp_path, None, choose(study.ROWS, names), seeds=1)
    found = wide(table).set_index("row")
    assert list(found.index) == names
    for name in ("JF_mean", "mIoU", "PCK@0.1", "PCK@0.2", "lost joints, %"):
        assert found[name].between(0, 100).all()
    steps = tiny.steps(len(study.training_clips(tiny_world)))
    assert found["steps"].tolist() == [steps] * 4 + [0]
    assert not [path for path in tmp_path.rglob("*") if path.suffix in {".pt", ".safetensors"}]
    assert {path.name for path in tmp_path.iterdir()} == {"cells", "frames"}
    parameters = found["parameters"]
    assert parameters["grid"] == parameters["default"] == parameters["untrained"]
    model = SiamMAE(**tiny.model_arguments())
    assert parameters["default"] == sum(parameter.numel() for parameter in model.parameters())
    assert parameters["siamese encoder, joint decoder"] < parameters["default"], "it has no cross-attention"


def test_the_untrained_network_is_never_trained(tiny, tiny_world, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "pretrain", None)
    seen = []

    def remember(encoder, *_):
        seen.append(torch.cat([parameter.detach().flatten() for parameter in encoder.parameters()]))
        (tmp_path / "runs").mkdir(exist_ok=True)
        return {}

    monkeypatch.setattr(study.three_tasks, "scores_of", remember)
    (row,) = choose(study.ROWS, ["untrained"])
    for seed in (0, 0, 1):
        found = study.measure_row(tiny, [], {}, tmp_path, row, seed, tmp_path / "runs")
        assert {record["step"] for record in found} == {0}
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])


def test_a_cell_of_single_frames_trains_a_mae(tmp_path, monkeypatch):
    row = next(row for row in study.ROWS if row.model is MAE)
    kind, settings, _ = given(monkeypatch, row, tmp_path)
    model = kind(**settings.model_arguments())
    assert model(batch(settings))[0].isfinite() and model.mask_ratio == presets.MAE["toy"].mask_ratio
