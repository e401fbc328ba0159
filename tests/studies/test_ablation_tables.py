"""What notebook 07 says of the ablations, on made-up grids whose answers are known."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lib.errors import UserError
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
    tests = tables.against_default(tables.rows_of(lines, "ratios"))
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
    tests = tables.against_default(tables.rows_of(fewer, "ratios"))
    assert set(tests["seeds"]) == {3}
    pd.testing.assert_frame_equal(tests, tables.against_default(tables.rows_of(lines[lines["seed"] < 3], "ratios")))
    with pytest.raises(UserError, match="1 seeds in common"):
        tables.against_default(tables.rows_of(lines[lines["seed"] < 1], "ratios"))


def test_the_conclusion_names_what_is_shown():
    lines = grid({"ratio 0.5": -5.0, "ratio 0.75": 0.0, "ratio 0.9": 4.0}, noise=0.2)
    words = tables.conclusion(tables.against_default(tables.rows_of(lines, "ratios")))
    assert "ratio 0.5 (-5" in words and "ratio 0.9 (+4" in words and "1 of 3 not shown" in words
    nothing = grid({"ratio 0.5": 0.0, "ratio 0.75": 0.0}, noise=2.0)
    assert "no row is shown" in tables.conclusion(tables.against_default(tables.rows_of(nothing, "ratios")))
    all_lower = grid({"ratio 0.5": -9.0})
    assert "not shown" not in tables.conclusion(tables.against_default(tables.rows_of(all_lower, "ratios")))


def test_other_peoples_numbers_stand_beside_ours():
    lines = grid({"ratio 0.5": -5.0, "ratio 0.75": 0.0})
    others = pd.DataFrame(
        [("default", "they", 58.0), ("ratio 0.5", "they", 50.0), ("ratio 0.5", "nobody", None)],
        columns=["case", "source", "value"],
    )
    rows = tables.rows_of(lines, "ratios")
    shown = tables.beside(rows, tables.against_default(rows), others, lambda *found: f"{found[0]:.0f}")
    assert shown["they"].tolist()[:2] == [58.0, 50.0] and shown["they"].isna().tolist() == [False, False, True]
    assert shown["nobody"].isna().all() and shown["J&F, difference"].tolist()[1] == "-5"
    assert shown["J&F"].iloc[0] == pytest.approx(rows[rows["case"] == "default"]["JF_mean"].mean())


def whole_grid() -> pd.DataFrame:
    """All rows that the claims compare, without effects."""
    names = {name for sides in {**tables.CLAIMS, "": tables.CROPS}.values() for side in sides for name in side}
    return grid(dict.fromkeys(sorted(names - {DEFAULT.name}), 0.0))


def verdict_of(lines: pd.DataFrame, claim: str) -> str:
    found = tables.claims(lines)
    return found[(found["claim"] == claim) & (found["measure"] == "JF_mean")]["verdict"].item()


def test_claims_are_supported_contradicted_or_open():
    assert set(tables.claims(whole_grid())["claim"]) == {*tables.CLAIMS, tables.NEARLY}
    decoder, jitter = "cross-self decoder over cross", "no colour jitter over colour jitter"
    worse = whole_grid()
    worse.loc[worse["row"] == "siamese encoder, cross decoder", list(tables.MEASURES)] -= 8
    assert verdict_of(worse, decoder) == "supports" and verdict_of(worse, jitter) == "cannot tell"
    better = whole_grid()
    better.loc[better["row"] == "colour jitter 0.4, both alike", list(tables.MEASURES)] += 6
    assert verdict_of(better, jitter) == "contradicts" and verdict_of(better, decoder) == "cannot tell"


def test_a_claim_compares_means_of_rows_seed_by_seed():
    lines = whole_grid()
    lines.loc[lines["row"] == "gap 4", list(tables.MEASURES)] -= 9
    found = tables.claims(lines)
    row = found[found["claim"].str.startswith("random gap") & (found["measure"] == "mIoU")].iloc[0]
    by_name = lines.pivot(index="seed", columns="row", values="mIoU")
    fixed = (by_name["gap 4"] + by_name["gap 8"] + by_name["gap 16"]) / 3
    assert row["mean"] == pytest.approx((by_name[DEFAULT.name] - fixed).mean()) and row["mean"] > 2.5


@pytest.mark.parametrize(("behind", "verdict"), [(0.0, "supports"), (-9.0, "contradicts"), (4.0, "supports")])
def test_nearly_as_good_is_a_question_of_a_margin(behind, verdict):
    lines = whole_grid()
    lines.loc[lines["row"] == "gap 0, crop in crop", list(tables.MEASURES)] += behind
    assert verdict_of(lines, tables.NEARLY) == verdict


def test_orders_are_compared_source_by_source():
    lines = grid({"ratio 0.5": -5.0, "ratio 0.75": -2.0, "ratio 0.9": 4.0}, noise=0.01)
    cases = [DEFAULT.name, "ratio 0.5", "ratio 0.75", "ratio 0.9"]
    others = pd.concat(
        pd.DataFrame({"table": "ratios", "case": cases, "source": source, "value": values})
        for source, values in {"same": [50, 1, 20, 60], "opposite": [2, 9, 5, 1], "none": [None] * 4}.items()
    )
    found = tables.rank_correlations(lines, others).set_index("their order")
    assert found["tau"].to_dict() == {"same": 1.0, "opposite": -1.0} and set(found["rows"]) == {4}
    assert found["lowest seed"]["same"] == 1.0
    assert tables.rank_correlations(lines, others.head(2)).empty, "two rows order nothing"


def test_the_order_at_full_length():
    shorts = list(SHORT)
    effects = {name: -float(k) for k, name in enumerate(shorts) if name != DEFAULT.name}
    lines = grid(effects | {SHORT[name]: 10.0 + effects.get(name, 0.0) for name in shorts}, noise=0.0)
    table = tables.full_length(lines)
    assert table["case"].tolist() == shorts and (table["J&F, full length"] - table["J&F"]).round(6).eq(10).all()
    assert tables.order_kept(table) == pytest.approx(dict.fromkeys(tables.MEASURES.values(), 1.0))
    turned = lines.copy()
    turned.loc[turned["row"].isin(SHORT.values()), "JF_mean"] *= -1
    assert tables.order_kept(tables.full_length(turned))["J&F"] == pytest.approx(-1)


def test_the_committed_rows_of_others_are_rows_of_ours():
    others = pd.read_csv("figures/paper/ablations.csv")
    assert set(others["table"]) <= set(TABLES)
    for table, part in others.groupby("table"):
        assert set(part["case"]) <= {DEFAULT.name, *(row.name for row in TABLES[table])}
    nothing = others[others["source"].str.startswith("SiamMAE")]
    assert nothing["value"].isna().all() and nothing["note"].str.contains("not found").all()
