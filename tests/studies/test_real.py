"""The studies of real clips, on small ones in the same layouts, and their committed tables."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from make_jhmdb import make_outlines, refused

from lib.data.decoding import PAPER_FPS
from lib.data.jhmdb_outlines import source_of
from lib.models.mae import MAE
from lib.studies import choices, real, real_tables
from lib.studies import real_data as real_data_study
from lib.studies.ablations import settings_of
from lib.studies.grid import choose
from lib.studies.table import write_table

MEASURED = Path(__file__).resolve().parents[2] / "figures" / "measured"

WALK, WAVE = "{}_walk_f_nm_np1_fr_med_{}", "{}_wave_u_cm_np2_ba_goo_{}"  # as HMDB names clips: film, what, and number
PEOPLE = {("walk", WALK.format(film, number)): "1" for film in "abcd" for number in range(2)}
PEOPLE |= {("walk", WALK.format("e", 0)): "2", ("walk", "gone"): "2"}
PEOPLE |= {("wave", WAVE.format("f", 0)): "1", ("wave", WAVE.format("g", 0)): "2"}


@pytest.fixture(scope="module")
def data(tiny_world, tmp_path_factory):
    """Kinetics and DAVIS as the toy world renders them, and a few clips in JHMDB's layout."""
    folder = tmp_path_factory.mktemp("real")
    for name in ("kinetics400", "davis2017"):
        (folder / name).symlink_to(tiny_world / name)
    make_outlines(folder / "jhmdb_actions", PEOPLE, frames=12)
    return folder


def test_settings_are_chosen_on_no_clip_that_is_trained_on_or_reported(data):
    chosen, reported = (real_data_study.open_real(data, real.START, choosing) for choosing in (True, False))
    held_out = {clip.name for clip in chosen.tests["JHMDB, held out"].sequences}
    assert held_out == {WALK.format("a", 0), WALK.format("a", 1), WAVE.format("f", 0)}  # two of each action
    trained = {clip.path.stem for clip in chosen.clips()}
    assert not trained & held_out and {WALK.format("b", 0), WALK.format("d", 1)} <= trained
    tested = {clip.name for clip in reported.tests["JHMDB"].sequences}
    assert tested == {WALK.format("e", 0), WAVE.format("g", 0)} and reported.tests["JHMDB"].sequences.absent == 1
    assert {clip.path.stem for clip in reported.clips()} == trained | held_out
    assert "5 clips of Kinetics-400 and 9 of JHMDB" in reported.about and "DAVIS-2017: 2" in reported.about
    assert [clip.path.parent.name for clip in reported.clips()].count("walk") == 8


def test_the_clips_are_as_many_as_the_notebook_says(real_data):
    found = real_data_study.open_real(real_data, real.START, choosing=False)
    reach = [clip for clip in found.people if clip.info.reaches(real.CHOSEN["gap"][1] / PAPER_FPS)]
    assert (len(found.kinetics), len(found.people), len(reach)) == (20, 294, 169)
    assert {name: len(test.sequences) for name, test in found.tests.items()} == {
        "JHMDB": 126,
        "DAVIS-2016 (one object)": 10,
    }


def test_test_clips_of_films_that_are_trained_on_decide_nothing(real_data):
    found = real_data_study.open_real(real_data, real.START, choosing=False)
    films = {source_of(clip.path.stem) for clip in found.people}
    shared = {clip.name for clip in found.tests["JHMDB"].sequences if source_of(clip.name) in films}
    lines = real_tables.read_clips(MEASURED / "real.csv")
    lines = lines[lines["data"] == "JHMDB"]
    pairs = [pair for pair in real.PAIRS if set(pair) <= set(lines["row"])]
    whole, apart = (real_tables.comparisons(part, pairs) for part in (lines, lines[~lines["clip"].isin(shared)]))
    assert len(shared) == 16 and whole["verdict"].tolist() == apart["verdict"].tolist()
    networks = ~whole["minus"].isin(real_tables.UNSEEDED)
    assert (whole["mean"] - apart["mean"])[networks].abs().max() < 0.3  # as notebook 06 says


def test_every_clip_gets_its_scores_and_every_training_its_cost(data, tmp_path):
    rows = choose(real.ROWS, ["SiamMAE", "MAE", real.BOTH, "SiamMAE, gap 0", real.UNTRAINED, real.RGB, real.COPIED])
    table = real.run(data, tmp_path / "out", 1.0, rows=rows, seeds=1)
    write_table(tmp_path / "real.csv", table)
    lines, costs = real_tables.read_clips(tmp_path / "real.csv"), real_tables.read_costs(tmp_path / "real.csv")
    assert set(lines["data"]) == {"JHMDB", "DAVIS-2017"} and lines.groupby("row").size().unique().tolist() == [4]
    assert lines[["J", "F", "JF"]].stack().between(0, 100).all()
    np.testing.assert_allclose(lines["JF"], (lines["J"] + lines["F"]) / 2)
    blocks = lines.dropna(subset="block").groupby("row")["block"].unique().map(list).to_dict()
    assert blocks == {row.name: [real.block_of(row)] for row in rows[:5]}
    assert lines["row"].unique().tolist() == [row.name for row in rows]
    trained = costs.set_index("row")
    assert trained.loc[real.UNTRAINED, "samples"] == 0 < trained.loc["SiamMAE", "CPU seconds"]
    assert trained.loc["MAE", "samples"] / trained.loc["SiamMAE", "samples"] == pytest.approx(real.LONGER, rel=0.2)
    again = real.run(data, tmp_path / "out", 1.0, rows=rows, seeds=1)
    pd.testing.assert_frame_equal(again, table)


def test_the_methods_differ_in_what_their_names_say():
    for row, (grid, expected) in product(choose(real.ROWS, real.ON_GRIDS), real.GRIDS.items()):
        (other,) = choose(real.ROWS, [f"{row.name}, {grid}"])
        usual, changed = (vars(settings_of(real.START, each)[0]) for each in (row, other))
        assert {name: value for name, value in changed.items() if value != usual[name]} == expected
        assert (other.model, other.length) == (row.model, row.length)
    rows = choose(real.ROWS, ["SiamMAE", "MAE", "SiamMAE, gap 0"])
    siam, alone, still = (settings_of(real.START, row)[0] for row in rows)
    assert (siam.encoder, siam.crop_scale, siam.batch_size) == (alone.encoder, alone.crop_scale, alone.batch_size)
    assert alone.mask_ratio == 0.75 and siam.mask_ratio == 0.95 and still.gap == (0, 0) and still.second_crop
    assert {row.model for row in choices.ROWS if row.name.startswith("MAE")} == {MAE}
    names = [row.name for row in choices.ROWS]
    assert len(set(names)) == len(names)


def test_rows_of_choices_train_and_are_scored_on_held_out_clips(data, tmp_path):
    names = ["4 futures of each past", "half of the pairs still", "crop in crop", "JHMDB alone"]
    table = choices.run(data, tmp_path, 1.0, rows=choose(choices.ROWS, names), seeds=1)
    assert {"JF", "samples", "CPU seconds"} < set(table["metric"])
    assert set(table["data"].dropna()) == {"JHMDB, held out"} and table["clip"].nunique() == 3
    placed = table[table["metric"].isin(["place share", "JF without place"])]
    samples = table[table["metric"] == "samples"].set_index("row")["value"]
    assert samples["JHMDB alone"] == pytest.approx(samples["crop in crop"], rel=0.3)  # whole steps of an epoch or two
    assert (
        set(placed["row"]) == {"crop in crop", "JHMDB alone"}
        and len(placed) == 8
        and placed["value"].between(0, 100).all()
    )


# --- Tables ---


def lines_of(scores: dict[str, np.ndarray]) -> pd.DataFrame:
    """Lines of rows with scores (seeds, clips)."""
    return pd.DataFrame([
        {"row": row, "seed": seed, "block": 2, "data": "D", "clip": f"c{clip}", "JF": value, "J": value, "F": value}
        for row, values in scores.items()
        for (seed, clip), value in np.ndenumerate(values)
    ])  # fmt: skip


def lines_matrix(lines: pd.DataFrame, row: str) -> np.ndarray:
    """Scores of a row, seeds x clips."""
    return real_tables.matrix(lines, row, "D", "JF")[[f"c{clip}" for clip in range(40)]].to_numpy()


def test_differences_are_clip_by_clip_and_seed_by_seed():
    hard = np.linspace(20, 90, 40)
    rng = np.random.default_rng(0)
    ours = hard + 2 + rng.normal(0, 1, (3, 40))
    lines = lines_of({"A": ours, "B": hard + rng.normal(0, 1, (3, 40)), "one": hard[None]})
    lines = pd.concat([lines, lines_of({real.RGB: hard[None]})])
    for interval in real_tables.difference(lines, "A", "B", "D")[:2]:
        assert interval.low < 2 < interval.high and interval.high - interval.low < 3
    assert len(real_tables.difference(lines, "A", "B", "D").by_seed) == 3
    for ours, theirs, sign in (("A", real.RGB, 1), (real.RGB, "A", -1)):  # there is but one: against each seed
        compared = real_tables.difference(lines, ours, theirs, "D")
        np.testing.assert_allclose(compared.by_seed, sign * (lines_matrix(lines, "A") - hard).mean(axis=1))
    assert len(real_tables.difference(lines, "A", "one", "D").by_seed) == 1  # a seed that both have
    table = real_tables.comparisons(lines, [("A", "B"), ("B", "A"), ("one", "B")])
    assert table["verdict"].tolist() == ["higher", "lower", "not shown"]
    fewer = pd.concat([lines[lines["row"] == "A"], lines[(lines["row"] == "B") & (lines["clip"] != "c3")]])
    refused(lambda: real_tables.difference(fewer, "A", "B", "D"), "scored on other clips")
    found = real_tables.means(lines).set_index("row")
    assert found.loc["A", "seeds"] == 3 and found.loc["one", "JF"] == pytest.approx(hard.mean())


def test_places_and_curves_are_means_of_the_lines(tmp_path):
    common = {"seed": 0, "step": 1, "seconds": 1.0, "hardware": "some", "block": 2, "data": "D"}
    table = [
        common | {"row": row, "metric": metric, "value": value, "clip": clip}
        for row, values in {"A": (50, 60), "A, 2 x": (70, 80), "B": (1, 2)}.items()
        for clip, value in zip("ab", values, strict=True)
        for metric, value in (("JF", value), *([("JF without place", value - 5)] if row == "A" else []))
    ]
    cost = [("A", 100, 10), ("A, 2 x", 200, 21), ("B", 7, 7)]
    table += [
        common | {"row": row, "metric": metric, "value": value, "block": None, "data": None}
        for row, *values in cost
        for metric, value in zip(real_tables.COSTS, values, strict=True)
    ]
    table += [common | {"row": "A", "metric": "place share", "value": 40.0}]
    write_table(tmp_path / "choices.csv", pd.DataFrame(table))
    lines, costs = real_tables.read_clips(tmp_path / "choices.csv"), real_tables.read_costs(tmp_path / "choices.csv")
    found = real_tables.curve(lines, costs, "A")
    assert found.to_numpy().tolist() == [[55, 100, 10], [75, 200, 21]] and list(found) == ["JF", *real_tables.COSTS]
    (placed,) = real_tables.places(tmp_path / "choices.csv", 2).to_dict("records")
    assert placed == {"row": "A", "seed": 0, "JF": 55, "JF without place": 50, "place share": 40}
    wide = real_tables.by_seed(lines.assign(data=["D", "E"] * 3))
    assert wide.loc[wide["case"] == "A, block 2", ["D", "E"]].to_numpy().tolist() == [[50, 60]]


def test_costs_stand_by_hardware():
    found = pd.DataFrame({"row": ["A", "none", "A"], "data": ["D", "D", "E"]})
    rows = [("A", 0, "slow", 100, 120.0), ("A", 1, "fast", 100, 60.0), ("A", 2, "fast", 100, 90.0)]
    rows += [("none", 0, "slow", 0, 0.1)]
    costs = pd.DataFrame(rows, columns=["row", "seed", "hardware", "samples", "CPU seconds"])
    table = real_tables.with_costs(found, costs)
    for column, value in (("samples", 100), ("CPU minutes, slow", 2.0), ("CPU minutes, fast", 1.25)):
        assert table.loc[[0, 2], column].tolist() == [value] * 2 and pd.isna(table.loc[1, column])


def test_times_are_compared_on_the_same_hardware_alone():
    lines = lines_of({row: np.array([[50.0, 60.0]]) for row in ("A", "B", "C")})
    rows = [("A", "slow", 10.0), ("B", "slow", 15.0), ("C", "fast", 3.0)]
    costs = pd.DataFrame(rows, columns=["row", "hardware", "CPU seconds"])
    times = real_tables.against_default(lines, costs, "A").set_index("row")["time"]
    assert (times["A"], times["B"]) == (1, 1.5) and np.isnan(times["C"])
