"""Tables: settings as they are, measured values with the digits that their spread allows; also in the notebooks."""

import html
import re

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch

import make
from lib.evaluation.intervals import trend
from lib.evaluation.protocols import PROTOCOLS
from lib.plots import tables
from lib.plots.tables import claim, claim_of_test, open_claims, with_ends
from lib.presets import ADAMAE, SIAMMAE, compare


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.95, "0.95"), (0.75, "0.75"), (0.05, "0.05"), (1.5e-4, "1.5e-4"), (4e-3, "4e-3"), (1e-4, "1e-4"),
        (0.01, "0.01"), (0.048, "0.048"), (1.0, "1"), (0.0, "0"), (-2.5, "-2.5"), (70.04, "70.04"), (1e6, "1000000"),
        ((0.1, 0.35), "(0.1, 0.35)"), ((2, -1), "(2, -1)"), ((-1,), "(-1,)"), (True, "True"), (None, "None"),
        (7, "7"), ("2", "2"), (float("nan"), "–"), (np.float64(0.95), "0.95"), (np.bool_(False), "False"),
    ],
)  # fmt: skip
def test_a_setting_is_shown_as_it_is(value, shown):
    assert tables.as_is(value) == shown


def cells_of(markup: str) -> list[list[str]]:
    """The rows of an HTML table as text."""
    rows = re.findall(r"<tr.*?</tr>", markup, flags=re.DOTALL)
    return [
        [html.unescape(re.sub(r"<.*?>", "", cell)).strip() for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)]
        for row in rows
    ]


def test_a_table_rounds_measured_columns_alone():
    nothing = float("nan")
    rows = [
        {"name": "a", "rate": 1.5e-4, "score": 39.27, "n": 3},
        {"name": "b", "rate": 0.95, "score": nothing, "n": 4},
    ]
    shown = tables.table(rows, "3 < 4 clips", {"score": 1})
    assert cells_of(shown.data)[1:] == [["a", "1.5e-4", "39.3", "3"], ["b", "0.95", "–", "4"]]
    assert "3 &lt; 4 clips" in shown.data
    assert cells_of(tables.table(rows, "", decimals=3).data)[1] == ["a", "0.000", "39.270", "3"]


@pytest.mark.parametrize(
    ("spread", "decimals"),
    [(1.3, 1), (0.96, 1), (0.015, 3), (0.00012, 5), (0.004, 3), (19.1, 0), (250.0, 0)],
)
def test_a_spread_allows_one_or_two_of_its_own_digits(spread, decimals):
    assert tables.decimals_of(spread) == decimals


def test_values_with_their_spread():
    assert tables.plus_minus(39.34, 1.32, 1) == "39.3 ± 1.3" and tables.plus_minus(39.34, 0.02, 1) == "39.34 ± 0.02"
    assert tables.plus_minus(21.774, 0.0, 1) == "21.8" and tables.plus_minus(21.774, float("nan"), 2) == "21.77"
    assert tables.plus_minus(float("nan"), float("nan"), 1) == "–"
    assert tables.with_interval(-0.0021, -0.0044, 0.0002) == "-0.0021 [-0.0044, 0.0002]"
    assert tables.with_interval(14.4, -4.7, 33.5) == "14 [-5, 34]"
    assert tables.with_interval(0.5, float("nan"), float("nan")) == "0.500"


def test_a_difference_and_its_ends_become_one_column():
    rows = pd.DataFrame({"case": ["a"], "mean": [14.4], "low": [-4.7], "high": [33.5], "p_value": [0.2]})
    assert tables.with_intervals(rows).to_dict("records") == [
        {"case": "a", "difference": "14 [-5, 34]", "p_value": 0.2}
    ]


def test_spreads_over_seeds():
    """The largest spread of x is 0.0141, of y 0."""
    rows = pd.DataFrame(
        {
            "case": ["a", "a", "b", "c", "d", "d"],
            "x": [0.52, 0.54, 0.5512, None, 0.6, 0.6002],
            "y": [1.0, 1.0, 2.0, 3.0, 4.0, 4.0],
        }
    )
    found = tables.spreads(rows, "case", ["x", "y"]).to_dict("list")
    assert found["case"] == ["a", "b", "c", "d"] and found["seeds"] == [2, 1, 1, 2]
    assert found["x"] == ["0.530 ± 0.014", "0.551", "–", "0.6001 ± 0.0001"]
    assert found["y"] == ["1", "2", "3", "4"]


def test_rows_of_trends():
    rising = trend(torch.arange(4.0).repeat(5, 1) + torch.rand(5, 1, generator=torch.Generator().manual_seed(0)))
    (row,) = tables.trend_rows({"sigma": rising})
    assert row["quantity"] == "sigma" and row["steps up, as estimated"] == "3 of 3"
    assert not row["a step down is shown"] and row["Kendall's tau"].startswith("1")


@pytest.mark.parametrize(
    ("found", "limits", "verdict"),
    [
        ((0.6, 0.55, 0.65), {"least": 0.5}, "shown"),
        ((0.6, 0.45, 0.75), {"least": 0.5}, "not shown"),
        ((0.4, 0.3, 0.49), {"least": 0.5}, "shown not to hold"),
        ((0.4, 0.3, 0.5), {"most": 0.5}, "shown"),
        ((0.6, 0.51, 0.7), {"most": 0.5}, "shown not to hold"),
        ((0.6,), {"least": 0.5}, "reached"),
        ((0.5,), {"most": 0.5}, "reached"),
        ((11,), {"least": 12}, "missed"),
    ],
)
def test_verdicts(found, limits, verdict):
    assert claim("it", found, **limits)["verdict"] == verdict


def test_a_claim_states_its_number_and_what_is_wanted():
    row = claim("it", with_ends({"x": 0.612, "x_low": 0.55, "x_high": 0.67}, "x"), least=0.5)
    assert row["measured"] == "0.61 [0.55, 0.67]" and row["wanted"] == "at least 0.5"
    assert claim("it", (11,), most=12)["measured"] == "11" and claim("it", (0.03131,), most=0.05)["measured"] == "0.031"


def test_a_corrected_test_decides_and_what_is_open_is_listed():
    row = {"mean": 1.5, "low": -0.1, "high": 3.1, "verdict": "not shown"}
    rows = [claim_of_test("a", row), claim_of_test("b", row | {"verdict": "higher"}), claim("c", (1,), least=2)]
    assert [found["verdict"] for found in rows] == ["not shown", "shown", "missed"]
    assert open_claims(rows).splitlines() == [
        "missed:", "- c: 1", "shown not to hold:", "- nothing", "not shown:", "- a: 1.5 [-0.1, 3.1]"
    ]  # fmt: skip


# --- what readers see ---------------------------------------------------------------------------------------


def tables_of(number: str) -> list[list[list[str]]]:
    """All tables in the outputs of a committed notebook."""
    (path,) = (make.ROOT / "notebooks").glob(f"{number}_*.ipynb")
    outputs = [output for cell in nbformat.read(path, as_version=4).cells for output in cell.get("outputs", [])]
    found = [output["data"]["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    return [cells_of(markup) for markup in found]


def column(number: str, heading: str, name: str) -> dict[str, str]:
    """First cell -> cell under `name`, of the one table whose first heading is `heading` and that has `name`."""
    (rows,) = [rows for rows in tables_of(number) if rows[0][0] == heading and name in rows[0]]
    return {row[0]: row[rows[0].index(name)] for row in rows[1:]}


@pytest.mark.parametrize(("number", "presets"), [("03", SIAMMAE), ("04", ADAMAE)])
@pytest.mark.parametrize("preset", ["toy", "paper"])
def test_notebooks_show_every_setting_as_the_preset_holds_it(number, presets, preset):
    shown = column(number, "setting", preset)
    assert {row["setting"]: tables.as_is(row[preset]) for row in compare(presets, preset)} == shown


def test_the_protocols_are_shown_as_they_are():
    shown = {name: column("11", "choice", name) for name in PROTOCOLS}
    assert shown["crw"]["temperature"] == "0.05" and shown["dino"]["temperature"] == "0.1"
    assert shown["siammae-4b"]["temperature"] == "0.7*" and shown["siammae-4b"]["top_k"] == "7"
