"""The study of actions on real clips, on a few small ones in JHMDB's layout, and what its table says."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from make_jhmdb import make_outlines

from lib.studies import real_actions, real_tables
from lib.studies.grid import choose
from lib.studies.table import write_table

NAME = "{}_{}_f_nm_np1_fr_med_0"  # as HMDB names clips: film, what, and number


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two actions: four clips of each to train on, one of each to test on."""
    folder = tmp_path_factory.mktemp("actions")
    marks = {(act, NAME.format(film, act)): "12"[film == "e"] for act in ("walk", "wave") for film in "abcde"}
    make_outlines(folder / "jhmdb_actions", marks, frames=17)
    return folder


def test_each_test_clip_is_right_or_wrong_by_each_test(data, tmp_path, monkeypatch):
    brief = replace(real_actions.FINE_TUNING, epochs=2, warmup_epochs=0)
    monkeypatch.setattr(real_actions, "FINE_TUNING", brief)
    rows = choose(real_actions.ROWS, ["tube", "untrained"])
    table = real_actions.run(data, tmp_path / "out", 1.0, rows=rows, seeds=1)
    write_table(tmp_path / "actions.csv", table)
    lines = real_tables.read_clips(tmp_path / "actions.csv")
    assert lines["row"].tolist() == ["tube"] * 2 + ["untrained"] * 2
    assert set(lines["clip"]) == {NAME.format("e", "walk"), NAME.format("e", "wave")}
    assert set(np.unique(lines[list(real_actions.TESTS)])) <= {0.0, 100.0}
    steps = table.groupby("row")["step"].unique().map(list).to_dict()
    assert steps["tube"] != [0] == steps["untrained"]
    again = real_actions.run(data, tmp_path / "out", 1.0, rows=rows, seeds=1)
    pd.testing.assert_frame_equal(again, table)


def test_verdicts_hold_each_test_and_each_pair():
    rng = np.random.default_rng(0)
    chances = {"adaptive": 0.8, "random": 0.2, "tube": 0.8, "untrained": 0.5}
    lines = pd.DataFrame([
        {"row": row, "seed": seed, "block": None, "data": "D", "clip": f"c{clip}"}
        | {test: 100.0 * (rng.random() < chance) for test in real_actions.TESTS}
        for row, chance in chances.items()
        for seed in range(3)
        for clip in range(60)
    ])  # fmt: skip
    found = real_actions.verdicts(lines)
    assert len(found) == len(real_actions.TESTS) * len(real_actions.PAIRS)
    assert found["test"].unique().tolist() == list(real_actions.TESTS.values())
    by_rival = found.groupby("minus")
    assert by_rival.get_group("random")["verdict"].tolist() == ["higher"] * 4
    assert "lower" not in set(found["verdict"])
    probe = found[found["test"] == real_actions.TESTS["probe"]].set_index("minus")
    gap = lines[lines["row"] == "adaptive"]["probe"].mean() - lines[lines["row"] == "tube"]["probe"].mean()
    assert probe.loc["tube", "mean"] == pytest.approx(gap)
