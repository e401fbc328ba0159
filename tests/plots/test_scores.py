"""Rows of scores: choices of protocols, effects of factors, Table 1, gains over seeds."""

import pandas as pd
import pytest

import make
from lib.evaluation.protocols import PROTOCOLS, get_protocol
from lib.plots import scores


def test_choices_are_shown_and_marked_where_the_source_does_not_state_them():
    rows = scores.protocol_rows({name: (name, records["davis"]) for name, records in PROTOCOLS.items()})
    table = pd.DataFrame(rows).set_index("choice")
    assert list(table.loc["top_k"]) == ["10", "7", "7", "5", "7"]
    assert table.loc["temperature", "siammae-4b"] == "0.7*" and table.loc["temperature", "cropmae"] == "0.7"
    assert table.loc["input_size", "crw"] == "native" and table.loc["input_size", "dino"] == "short side 480"
    assert table.loc["joint_cells", "dino"] == "–" and table.loc["joint_cells", "crw"] == "3"


def test_effects_are_differences_from_the_base():
    rows = [("queue", 0, False, 40.0), ("queue", 20, True, 50.0), ("queue", 30, False, 51.5)]
    rows += [("shape", "disc", True, 50.0), ("shape", "square", False, 49.0)]
    found = scores.effects(pd.DataFrame(rows, columns=["factor", "value", "is_base", "JF_mean"])).to_dict("records")
    assert found == [
        {"factor": "queue", "base": 20, "worst": 0, "points lost": -10, "best": 30, "points gained": 1.5},
        {"factor": "shape", "base": "disc", "worst": "square", "points lost": -1, "best": "disc", "points gained": 0},
    ]


def test_table1_holds_every_published_number_once_and_ours():
    paper = {name: pd.read_csv(make.ROOT / "figures" / "paper" / f"{name}.csv") for name in ("table1", "newer")}
    ours = pd.DataFrame([{"method": "A", "JF_mean": 40.0, "mIoU": 30.0}, {"method": "B", "JF_mean": 20.0}])
    table = scores.table1(paper, ours, {"A": ("ViT", "1 sample"), "B": ("–", "none")})
    published = table[table["rows of"] != "ours"]
    for name, rows in paper.items():
        found = published[published["rows of"] == name]
        assert found[list(scores.TABLE1.values())].notna().sum().sum() == len(rows)
        row = rows.iloc[0]
        mine = found[(found["method"] == row["method"]) & (found["read in"] == row["source"])]
        assert row["value"] in mine[row["metric"]].tolist()
    last = table[table["rows of"] == "ours"].set_index("method")
    assert last.loc["A", "davis_J&F"] == 40 and last.loc["A", "vip_mIoU"] == 30 and pd.isna(last.loc["B", "vip_mIoU"])
    assert last.loc["A", "encoder"] == "ViT" and last.loc["B", "pretraining"] == "none"


def test_gains_are_paired_and_corrected_within_a_family():
    values = {"ours": (3.0, 4.0, 5.0), "near": (2.9, 4.1, 5.0), "far": (1.0, 2.01, 2.99)}
    rows = [{"seed": k, "method": name, "x": v[k], "y": -v[k]} for name, v in values.items() for k in range(3)]
    pairs = [("ours", "near"), ("ours", "far")]
    table = scores.gains(pd.DataFrame(rows), {"x": "height", "y": "depth"}, pairs, ["first", "second"])
    assert table["mean"].tolist() == pytest.approx([0, 0, 2, -2], abs=1e-9)
    assert table["verdict"].tolist() == ["not shown", "not shown", "higher", "lower"]
    assert table["p, Holm"].tolist()[2:] == pytest.approx(2 * table["p_value"][2:])  # two tests in the family
    one = scores.gains(pd.DataFrame(rows), {"x": "height", "y": "depth"}, pairs, ["all", "all"])
    assert one["p, Holm"].tolist()[2:] == pytest.approx([4 * p for p in table["p_value"][2:]])


def test_protocols_of_a_run_are_marked_by_their_name():
    rows = scores.protocol_rows({"vip": ("siammae-4b", get_protocol("siammae-4b", "vip"))})
    marks = {row["choice"]: row["vip"].endswith("*") for row in rows}
    assert not marks["radius"] and marks["shape"]
