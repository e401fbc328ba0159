"""What notebook 07 says of the ablations, on made-up grids whose answers are known."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lib.evaluation.differences import joint_differences
from lib.studies import ablation_tables as tables
from lib.studies.ablations import DEFAULT, SHORT, TABLES

SEEDS = 5


def grid(effects: dict[str, float], noise: float = 0.1, seeds: int = SEEDS) -> pd.DataFrame:
    """A wide table: the default at 40, each named row away from it by its effect, all moved by the seed."""
    rng = np.random.default_rng(0)
    lines = []
    for name, effect in {DEFAULT.name: 0.0, **effects}.items():
        for seed in range(seeds):
            score = 40 + 3 * seed + effect + noise * rng.standard_normal()
            lines.append({"row": name, "seed": seed, **dict.fromkeys(tables.MEASURES, score)})
    return pd.DataFrame(lines)


RATIOS = [row.name for row in TABLES["ratios"]]


def test_a_table_has_the_default_and_its_rows_in_order():
    lines = grid({name: -1.0 for name in ("flip alone", *reversed(RATIOS))})
    assert list(tables.rows_of(lines, "ratios")["case"].unique()) == [DEFAULT.name, *RATIOS]
    assert list(tables.rows_of(lines[lines["row"] != "ratio 0.9"], "ratios")["case"].unique()) == [
        name for name in (DEFAULT.name, *RATIOS) if name != "ratio 0.9"
    ]


def test_joint_intervals_are_those_of_a_block_design():
    """Against least squares on indicators of cases and seeds, with Bonferroni over the cases of a measure."""
    lines = grid({"ratio 0.5": -5.0, "ratio 0.75": 0.0, "ratio 0.9": 4.0}, noise=0.4)
    tests = tables.against(tables.rows_of(lines, "ratios"))
    part = lines.reset_index(drop=True)
    design = np.concatenate([pd.get_dummies(part["row"]), pd.get_dummies(part["seed"]).iloc[:, 1:]], axis=1).astype(
        float
    )
    solved, left, rank, _ = np.linalg.lstsq(design, part["JF_mean"].to_numpy(), rcond=None)
    free = len(part) - rank
    effects = dict(zip(pd.get_dummies(part["row"]).columns, solved, strict=False))
    reach = stats.t.ppf(1 - 0.05 / 3 / 2, free) * math.sqrt(2 * left[0] / free / SEEDS)
    for row in tests[tests["measure"] == "JF_mean"].itertuples():
        mean = effects[row.case] - effects[DEFAULT.name]
        assert (row.mean, row.low, row.high) == pytest.approx((mean, mean - reach, mean + reach))
    verdicts = tests[tests["measure"] == "mIoU"].set_index("case")["verdict"]
    assert verdicts.to_dict() == {"ratio 0.5": "lower", "ratio 0.75": "not shown", "ratio 0.9": "higher"}


def test_joint_intervals_leave_nothing_out_too_often():
    """Of 300 grids without any effect, about one in twenty has an interval without 0, never many more."""
    rng, misses = np.random.default_rng(1), 0
    for _ in range(300):
        frame = pd.DataFrame(
            [{"case": case, "seed": s, "x": rng.standard_normal()} for case in "abcde" for s in range(4)]
        )
        misses += (joint_differences(frame, ["x"], "a")["verdict"] != "not shown").any()
    assert misses / 300 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


def test_only_seeds_that_all_cases_have_count():
    lines = grid({"ratio 0.5": -5.0, "ratio 0.75": 1.0})
    fewer = lines[(lines["row"] != "ratio 0.5") | (lines["seed"] < 3)]
    tests = tables.against(tables.rows_of(fewer, "ratios"))
    assert set(tests["seeds"]) == {3}
    pd.testing.assert_frame_equal(tests, tables.against(tables.rows_of(lines[lines["seed"] < 3], "ratios")))
    lone = lines[(lines["row"] != "ratio 0.5") | (lines["seed"] < 1)]
    assert set(tables.against(tables.rows_of(lone, "ratios"))["case"]) == {"ratio 0.75"}
    assert tables.against(tables.rows_of(lines[lines["seed"] < 1], "ratios")).empty
    apart = lines[(lines["row"] != "ratio 0.5") | (lines["seed"] < 2)]
    apart = apart[(apart["row"] != "ratio 0.75") | (apart["seed"] > 1)]
    assert set(tables.against(tables.rows_of(apart, "ratios"))["case"]) == {"ratio 0.5"}, "no seed has all three"
    without = tables.against(tables.rows_of(lines.drop(columns="mIoU"), "ratios"))
    assert set(without["measure"]) == {"JF_mean", "PCK@0.1"}, "as on real video"


def test_the_untrained_network_is_shown_and_not_tested():
    lines = grid({"untrained": -20.0, "MAE, single frames, ratio 0.75": -5.0})
    rows = tables.rows_of(lines, "reference")
    assert set(tables.against(rows)["case"]) == {"MAE, single frames, ratio 0.75"} and "untrained" in set(rows["case"])


def test_the_conclusion_names_what_is_shown():
    lines = grid({"ratio 0.5": -5.0, "ratio 0.75": 0.0, "ratio 0.9": 4.0}, noise=0.2)
    words = tables.conclusion(tables.against(tables.rows_of(lines, "ratios")))
    assert "higher than the default in all 3 measures: ratio 0.9" in words.lower()
    assert "Lower than the default in all 3 measures: ratio 0.5" in words and "1 of 3 not shown" in words
    lines.loc[lines["row"] == "ratio 0.75", "mIoU"] -= 5
    mixed = tables.conclusion(tables.against(tables.rows_of(lines, "ratios")), "it")
    assert (
        "Lower in some measures (how many): ratio 0.75 (1)" in mixed and "than it" in mixed and "not shown" not in mixed
    )
    nothing = grid({"ratio 0.5": 0.0, "ratio 0.75": 0.0}, noise=2.0)
    assert tables.conclusion(tables.against(nothing.rename(columns={"row": "case"}).head(2))).startswith("Too few")
    assert "None of 2" in tables.conclusion(tables.against(tables.rows_of(nothing, "ratios")))
    alone = tables.against(tables.rows_of(lines.drop(columns=["mIoU", "PCK@0.1"]), "ratios"))
    expected = "Higher than it: ratio 0.9. Lower than it: ratio 0.5. 1 of 3 not shown to differ"
    assert tables.conclusion(alone, "it") == expected, "of one measure, it says nothing of measures"


def test_other_peoples_numbers_stand_beside_ours():
    lines = grid({"ratio 0.5": -5.0, "ratio 0.75": 0.0}, noise=0.3).assign(parameters=1234567)
    others = pd.DataFrame(
        [("default", "they", 58.0), ("ratio 0.5", "they", 50.0), ("ratio 0.5", "nobody", None)],
        columns=["case", "source", "value"],
    ).assign(measure="J")
    rows = tables.rows_of(lines, "ratios")
    shown = tables.beside(rows, tables.against(rows), others, lambda *found: f"{found[0]:.0f}")
    assert shown["they, J"].tolist()[:2] == [58.0, 50.0] and shown["they, J"].isna().tolist() == [False, False, True]
    assert shown["nobody, J"].tolist()[1] == "not found" and shown["nobody, J"].isna().tolist() == [True, False, True]
    assert shown["J&F, difference"].tolist()[1] == "-5" and shown["parameters"].tolist() == ["1.23 M"] * 3
    by_name = lines.pivot(index="seed", columns="row", values="JF_mean")
    assert shown["J&F"].iloc[0] == pytest.approx(by_name["default"].mean())
    assert shown["sd of difference"].iloc[1] == pytest.approx((by_name["ratio 0.5"] - by_name["default"]).std())


def whole_grid(**effects: float) -> pd.DataFrame:
    """All rows that the claims compare, without effects but those given as "row: effect"."""
    names = {name for pairs in {**tables.CLAIMS, "": (tables.CROPS,)}.values() for two in pairs for name in two}
    return grid(dict.fromkeys(sorted(names - {DEFAULT.name}), 0.0) | effects)


def verdict_of(lines: pd.DataFrame, claim: str, measure: str = "J&F") -> str:
    return tables.summary_of(tables.claims(lines)).set_index("claim")[measure][claim]


def test_claims_whose_rows_share_no_two_seeds_with_the_others_are_left_out():
    lines, jitter = whole_grid(), "colour jitter 0.4, both alike"
    lines = lines[(lines["row"] != jitter) | (lines["seed"] == 0)]
    found = set(tables.claims(lines)["claim"])
    assert "no colour jitter over colour jitter" not in found and len(found) == len(tables.CLAIMS)


def test_claims_are_supported_contradicted_or_open():
    found = tables.claims(whole_grid())
    assert set(found["claim"]) == {*tables.CLAIMS, tables.NEARLY}
    decoder, jitter = "cross-self decoder over cross", "no colour jitter over colour jitter"
    worse = whole_grid(**{tables.CROSS: -8.0, "joint encoder, cross decoder": -8.0})
    assert verdict_of(worse, decoder) == "supports" and verdict_of(worse, jitter) == "cannot tell"
    better = whole_grid(**{"colour jitter 0.4, both alike": 6.0})
    assert verdict_of(better, jitter, "mIoU") == "contradicts" and verdict_of(better, decoder) == "cannot tell"


def test_a_claim_must_hold_against_each_alternative():
    ratios = "ratio 0.95 over lower ones"
    assert verdict_of(whole_grid(**{"ratio 0.5": -9.0, "ratio 0.75": -9.0}), ratios) == "cannot tell"
    assert verdict_of(whole_grid(**{"ratio 0.5": -9.0, "ratio 0.75": -9.0, "ratio 0.9": -9.0}), ratios) == "supports"
    assert verdict_of(whole_grid(**{"ratio 0.5": -9.0, "ratio 0.9": 9.0}), ratios) == "contradicts"


@pytest.mark.parametrize(("behind", "verdict"), [(0.0, "supports"), (-9.0, "contradicts"), (4.0, "supports")])
def test_nearly_as_good_is_a_question_of_a_margin_in_one_measure(behind, verdict):
    lines = whole_grid(**{"gap 0, crop in crop": behind})
    assert verdict_of(lines, tables.NEARLY) == verdict
    assert pd.isna(verdict_of(lines, tables.NEARLY, "mIoU"))


def test_claims_whose_rows_are_not_all_there_are_left_out():
    lines = whole_grid()
    lines = lines[lines["row"] != "ratio 0.9"]
    assert "ratio 0.95 over lower ones" not in set(tables.claims(lines)["claim"])
    assert "cross-self decoder over cross" in set(tables.claims(lines)["claim"])
    assert tables.claims(grid({})).empty


def test_orders_are_compared_source_by_source():
    lines = grid({"ratio 0.5": -5.0, "ratio 0.75": -2.0, "ratio 0.9": 4.0}, noise=0.01)
    cases = [DEFAULT.name, "ratio 0.5", "ratio 0.75", "ratio 0.9"]
    others = pd.concat(
        pd.DataFrame({"table": "ratios", "case": cases, "source": source, "value": values})
        for source, values in {"same": [50, 1, 20, 60], "opposite": [2, 9, 5, 1], "none": [None] * 4}.items()
    ).assign(measure="J&F")
    found = tables.rank_correlations(lines, others).set_index("their order")
    assert found["tau"].to_dict() == {"same": 1.0, "opposite": -1.0} and set(found["rows"]) == {4}
    assert found["lowest seed"]["same"] == 1.0
    assert tables.rank_correlations(lines, others.head(2)).empty, "two rows order nothing"
    assert tables.rank_correlations(lines, others.assign(measure="J")).empty, "of another measure"


def test_full_length_rows_are_compared_with_their_own_default():
    shorts = [name for name in SHORT if name != DEFAULT.name]
    effects = {name: -float(k) for k, name in enumerate(shorts, start=1)}
    longs = {SHORT[DEFAULT.name]: 10.0} | {SHORT[name]: 10.0 - 2 * effect for name, effect in effects.items()}
    table = tables.full_length(grid(effects | longs, noise=0.01))
    table = table[table["measure"] == "JF_mean"].set_index("case")
    assert list(table.index) == shorts
    assert table["mean"].to_dict() == pytest.approx(effects, abs=0.1)
    assert table["mean long"].to_dict() == pytest.approx({name: -2 * e for name, e in effects.items()}, abs=0.1)


def test_the_committed_rows_of_others_are_rows_of_ours():
    others = pd.read_csv("figures/paper/ablations.csv")
    assert set(others["table"]) <= set(TABLES)
    for table, part in others.groupby("table"):
        assert set(part["case"]) <= {DEFAULT.name, *(row.name for row in TABLES[table])}
    nothing = others[others["source"].str.startswith("SiamMAE")]
    assert nothing["value"].isna().all() and nothing["note"].str.contains("not found").all()
