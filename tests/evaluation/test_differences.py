"""Paired differences and their correction, worked out by hand."""

import math

import pandas as pd
import pytest
from scipy import stats

from lib.evaluation.differences import differences, holm, paired_contrasts

ROWS = pd.DataFrame(
    [
        {"case": case, "seed": seed, "JF": value, "rmse": 0.8}
        for case, values in {"hard-first": (40, 41, 45), "beta 0.5": (38, 40, 42, 99), "easy-first": (1,)}.items()
        for seed, value in enumerate(values)
    ]
)


def test_differences_pair_the_seeds_that_both_have():
    """40, 41, 45 against 38, 40, 42: differences 2, 1, 3, mean 2, standard error 1 / sqrt 3, t = 2 sqrt 3."""
    (row,) = differences(ROWS, ["JF"], "beta 0.5").to_dict("records")
    reach = stats.t.ppf(0.975, 2) / math.sqrt(3)
    assert row["case"] == "hard-first" and row["seeds"] == 3 and row["mean"] == 2
    assert (row["low"], row["high"]) == pytest.approx((2 - reach, 2 + reach))
    assert row["p_value"] == pytest.approx(2 * stats.t.sf(2 * math.sqrt(3), 2)) and row["verdict"] == "not shown"


@pytest.mark.parametrize(("shift", "verdict"), [(5, "higher"), (-5, "lower")])
def test_a_clear_difference_is_named(shift, verdict):
    other = ROWS[ROWS["case"] == "beta 0.5"].assign(case="other", JF=lambda part: part["JF"] + float(shift))
    other.loc[other["seed"] == 0, "JF"] += 0.1
    found = differences(pd.concat([ROWS, other]), ["JF", "rmse"], "beta 0.5").set_index(["case", "measure"])
    assert found.loc[("other", "JF"), "verdict"] == verdict and found.loc[("other", "JF"), "seeds"] == 4
    assert found.loc[("other", "rmse"), "mean"] == 0 and found.loc[("other", "rmse"), "verdict"] == "not shown"


def test_nothing_to_compare_is_an_empty_table():
    assert differences(ROWS[ROWS["case"] == "beta 0.5"], ["JF"], "beta 0.5").empty


def test_holm_s_correction_by_hand():
    """Sorted 0.01, 0.02, 0.03, 0.6: times 4, 3, 2, 1, never below the one before."""
    assert holm([0.03, 0.01, 0.6, 0.02]) == pytest.approx([0.06, 0.04, 0.6, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_one_chance_finding_among_many_is_not_shown():
    rows = [ROWS[ROWS["case"] == "beta 0.5"].assign(case=f"other {k}") for k in range(9)]
    for part in rows:
        part["JF"] += [0.5, -0.5, 0.4, -0.4]
    rows[0]["JF"] = ROWS.loc[ROWS["case"] == "beta 0.5", "JF"].to_numpy() + [0.1, 0.5, 0.3, 0.3]
    found = differences(pd.concat([ROWS, *rows]), ["JF"], "beta 0.5").set_index("case").loc["other 0"]
    assert found["p_value"] < 0.05 < found["p_holm"] and found["low"] > 0 and found["verdict"] == "not shown"


def test_pairs_of_their_own_are_t_tests_seed_by_seed():
    rows = pd.DataFrame(
        {"case": case, "seed": seed, "x": value}
        for case, values in {"a": (1.0, 2.0, 3.0), "b": (3.0, 4.5, 4.5), "c": (0.0, 9.0, 2.0)}.items()
        for seed, value in enumerate(values)
    )
    found = paired_contrasts(rows, ["x"], {"b less a": ("a", "b"), "c less a": ("a", "c")})
    tests = [stats.ttest_rel([3.0, 4.5, 4.5], [1.0, 2.0, 3.0]), stats.ttest_rel([0.0, 9.0, 2.0], [1.0, 2.0, 3.0])]
    for row, test in zip(found.to_dict("records"), tests, strict=True):
        ends = test.confidence_interval(0.95)
        assert (row["low"], row["high"]) == pytest.approx((ends.low, ends.high)) and row["seeds"] == 3
    corrected = holm([test.pvalue for test in tests])
    assert [row == "not shown" for row in found["verdict"]] == [p >= 0.05 for p in corrected]
    alone = paired_contrasts(rows[rows["seed"] != 1], ["x"], {"b less a": ("a", "b")})
    assert alone["seeds"].tolist() == [2] and alone["mean"].tolist() == [1.75]
