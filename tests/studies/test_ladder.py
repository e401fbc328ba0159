"""The ladder's study on a tiny studio: every kind of row, and what is known of the frames beforehand."""

import re
from dataclasses import replace

import pytest
import torch
from torchvision.models.optical_flow import Raft_Small_Weights, raft_small

from lib import presets
from lib.evaluation import extrapolation
from lib.presets.ladder import LADDER
from lib.studies import hidden_states, ladder
from lib.studies.grid import choose
from lib.studies.ladder_data import FUTURES, GIVEN, held_out, open_data
from lib.studies.ladder_measures import baseline, loss_curve, prediction_scores
from lib.toyworld import ToyWorldOptions, ensure_toy_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    options = ToyWorldOptions(datasets=("studio",), studio_train=12, studio_val=3)
    return ensure_toy_world(tmp_path_factory.mktemp("world") / "toy", options, workers=1)


@pytest.fixture(scope="module")
def study(world):
    settings = presets.get(LADDER, "toy", epochs=1, size=(64, 64), channels=4, windows=1)
    data = open_data(world, settings, world / "frames")
    return settings, data, held_out(data)


def values(records: list[dict]) -> dict[str, float]:
    return {record["metric"]: record["value"] for record in records if record["metric"] != "loss"}


def test_held_out_frames_are_consecutive_and_what_moves_is_known(study):
    _, data, held = study
    assert held.given.shape[:2] == (3, GIVEN) and held.futures.shape[:2] == (3, FUTURES)
    last, first = held.given[:, -1].float(), held.futures[:, 0].float()
    change = (first - last).abs().mean(dim=1)  # (I, H, W)
    moving, still = held.moving[:, 0], ~held.moving[:, 0]
    assert 0.01 < moving.float().mean() < 0.4
    assert change[moving].mean() > 5 * change[still].mean()  # the studio's walls stand still
    regions = held.regions()
    assert (regions["whole"] | ~regions["moving"]).all()
    assert 0.7 < regions["whole"].float().mean() < 61 / 64  # 3 of 64 patches are shown to SiamMAE; SSIM looks around


def test_true_patches_that_siammae_sees_gain_nothing(study):
    """A copy with these patches painted in scores as the copy without them."""
    _, _, held = study
    copied = baseline("copy of the last frame", held)
    hidden = held.mask.hidden.view(3, FUTURES, 8, 8).repeat_interleave(8, 2).repeat_interleave(8, 3).unsqueeze(2)
    painted = torch.where(hidden, copied, held.futures.float() / 255)
    assert not torch.equal(painted, copied)
    found = values(prediction_scores(painted, held, copied))
    assert all(value == 0 for name, value in found.items() if name.startswith("gain"))


def test_the_truth_is_perfect_and_a_copy_gains_nothing_over_itself(study):
    _, _, held = study
    copied = baseline("copy of the last frame", held)
    assert torch.equal(copied[:, 2], held.given[:, -1].float() / 255)
    perfect, none = (values(prediction_scores(frames, held, copied)) for frames in (held.futures.float() / 255, copied))
    for ahead in range(1, FUTURES + 1):
        assert perfect[f"ssim moving +{ahead}"] == pytest.approx(1, abs=1e-4)
        assert perfect[f"gain moving +{ahead}"] == pytest.approx(1 - none[f"ssim moving +{ahead}"], abs=1e-4)
        assert none[f"gain whole +{ahead}"] == 0 and perfect[f"error whole +{ahead}"] == 0
    assert none["ssim moving +3"] < none["ssim moving +1"] < none["ssim whole +1"]


def test_flow_beats_a_copy_where_something_moves(study):
    _, _, held = study
    copied = baseline("copy of the last frame", held)
    assert values(prediction_scores(baseline("optical flow", held), held, copied))["gain moving +1"] > 0


def test_rafts_flow_is_in_pixels_of_the_frame(monkeypatch, study):
    """With a network that finds everything two of its own pixels to the right and one above."""
    _, _, held = study

    def network(now, before):
        assert now.shape[-2:] == (128, 128) and now.min() >= -1
        return [torch.tensor([4.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, *now.shape[-2:])]

    monkeypatch.setattr(extrapolation, "_raft", lambda: network)
    flow = extrapolation.raft_flow(held.given[0, -1], held.given[0, -2])
    torch.testing.assert_close(flow, torch.tensor([-1.0, 2.0]).view(2, 1, 1).expand(2, 64, 64))  # rows first


KINDS = (
    "circle", "three frames", "full resolution", "one frame, SiamMAE's encoder", "one frame, its encoder untrained",
    "untrained", "20 clips", "optical flow", "SiamMAE, pixels",
)  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_row_can_be_measured(name, study, world, monkeypatch):
    settings, data, held = study
    monkeypatch.setattr(ladder, "CIRCLE_STEPS", 2)
    monkeypatch.setattr(hidden_states, "LENGTHS", (1,))
    monkeypatch.setattr(hidden_states, "ARMS", {"both": ("both", {})})
    monkeypatch.setattr(hidden_states, "STATES", replace(hidden_states.STATES, epochs=0.5))
    (row,) = choose(ladder.ROWS, [name])
    found = ladder.measure_row(settings, data, held, row, 0, world / "runs" / re.sub(r"\W+", "_", name))
    wanted = {"error +3", "minutes"} if name == "circle" else {"ssim whole +1", "gain whole +3", "grid +2"}
    if name not in ("circle", "optical flow", "SiamMAE, pixels", "20 clips"):
        wanted |= {"ssim moving +1", "both: video", "parameters"}
    assert wanted <= set(values(found))
    trained = any(record["metric"] == "loss" for record in found)
    assert trained is (name not in ("optical flow", "untrained"))


def test_rafts_weights_are_read_from_torchs_cache(tmp_path, monkeypatch, study):
    """Where a download would have put them; random ones here."""
    _, _, held = study
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    target = tmp_path / "hub" / "checkpoints" / Raft_Small_Weights.DEFAULT.url.split("/")[-1]
    target.parent.mkdir(parents=True)
    torch.save(raft_small().state_dict(), target)
    extrapolation._raft.cache_clear()
    flow = extrapolation.raft_flow(held.given[0, -1], held.given[0, -2])
    extrapolation._raft.cache_clear()
    assert flow.shape == (2, 64, 64) and flow.isfinite().all()


def test_a_rows_first_weights_do_not_hang_on_what_was_trained_before(study, tmp_path):
    settings, data, _ = study
    (row,) = choose(ladder.ROWS, ["one frame, SiamMAE's encoder"])
    row = replace(row, length=0)  # nothing but SiamMAE is trained
    heads = [ladder.train_ladder(settings, data, row, 0, tmp_path / "row")[0].head.weight for _ in range(2)]
    assert torch.equal(*heads)  # trained for the first, loaded for the second


def test_rows_on_few_clips_make_as_many_steps(study, tmp_path):
    settings, data, held = study
    (row,) = choose(ladder.ROWS, ["20 clips"])
    _, losses, samples = ladder.train_ladder(settings, data, row, 0, tmp_path / "few")
    assert len(losses) == settings.steps(len(data.train.clips)) and len(samples) == 20


def test_a_loss_curve_has_few_points_and_its_mean():
    losses = [{"step": step, "loss": float(step)} for step in range(1000)]
    curve = loss_curve(losses)
    assert len(curve) == 60 and curve[-1]["step"] == 1000
    assert sum(point["value"] for point in curve) / 60 == pytest.approx(499.5, abs=10)
    assert loss_curve([]) == []
