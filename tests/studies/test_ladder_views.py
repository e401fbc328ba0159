"""What notebook 10 shows of the ladder's study."""

import pandas as pd
import pytest
import torch

from lib import presets
from lib.presets.ladder import LADDER
from lib.studies import ladder_views as views
from lib.studies.ladder_data import held_out, open_data
from lib.studies.ladder_measures import baseline
from lib.toyworld import ToyWorldOptions, ensure_toy_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    options = ToyWorldOptions(datasets=("studio",), studio_train=8, studio_val=3)
    return ensure_toy_world(tmp_path_factory.mktemp("world") / "toy", options, workers=1)


def test_kept_pictures_are_the_predictions(world, tmp_path, monkeypatch):
    monkeypatch.setitem(LADDER, "toy", presets.get(LADDER, "toy", epochs=0.5, channels=4))
    names = ["copy of the last frame", "one frame"]
    given = ["--data", str(world), "--out", str(tmp_path / "out"), "--npz", str(tmp_path / "kept.npz")]
    views.main([*given, "--clips", "2", "0", "--rows", *names])
    held, found = views.load(tmp_path / "kept.npz")
    data = open_data(world, LADDER["toy"], tmp_path / "frames")
    every = held_out(data)
    assert list(found) == names and torch.equal(held.futures, every.futures[[2, 0]])
    copied = (baseline("copy of the last frame", every)[[2, 0]] * 255).round().to(torch.uint8)
    assert torch.equal(found["copy of the last frame"], copied)
    again = views.predictions(LADDER["toy"], data, views.only(every, [2, 0]), ["one frame"], tmp_path / "out")
    assert torch.equal(found["one frame"], again["one frame"])
    rows = views.picture_rows(held, found, 1)
    assert len(rows["truth"]) == 8 and rows["one frame"][:5] == [None] * 5
    assert torch.equal(rows["one frame"][5], found["one frame"][1, 0])


def table() -> pd.DataFrame:
    rows = [
        ("a", 0, 10, "gain moving +1", 0.2, 0.1, 0.3), ("a", 1, 10, "gain moving +1", 0.4, -0.1, 0.6),
        ("a", 0, 5, "loss", 2.0, None, None), ("a", 0, 10, "loss", 1.0, None, None),
        ("a", 1, 10, "loss", 3.0, None, None),
        ("a", 0, 10, "both: video", 30.0, 20, 40), ("b", 0, 10, "both: video", 50.0, 20, 80),
    ]  # fmt: skip
    columns = ["row", "seed", "step", "metric", "value", "low", "high"]
    return pd.DataFrame(rows, columns=columns).assign(seconds=1.0, hardware="x")


def test_gains_have_the_widest_ends_of_the_seeds():
    (line,) = views.gains(table(), ["a"], "moving").to_dict("records")
    assert (line["+1"], line["+1_low"], line["+1_high"]) == pytest.approx((0.3, -0.1, 0.6))


def test_loss_curves_are_of_one_seed_and_no_scores():
    assert views.losses(table(), ["a"])["a"].to_dict() == {5: 2.0, 10: 1.0}
    lines = views.scores(table())
    assert "loss" not in lines and len(lines) == 3
    found = views.accuracies(lines, ["a", "b"], ["both"]).dropna()
    assert found[["row", "seed", "case", "accuracy"]].to_numpy().tolist() == [
        ["a", 0, "both", 30.0],
        ["b", 0, "both", 50.0],
    ]


def test_what_was_learned_by_heart_is_shown_as_bytes(world, tmp_path):
    base = presets.get(LADDER, "toy", epochs=0.5, channels=4)
    data = open_data(world, base, tmp_path / "frames")
    rows = views.learned_rows(base, data, ["5 clips"], tmp_path / "out")
    truth, predicted = rows.values()
    assert len(truth) == len(predicted) == 6 and predicted[:3] == [None] * 3
    assert {picture.dtype for picture in [*truth, *predicted[3:]]} == {torch.uint8}
