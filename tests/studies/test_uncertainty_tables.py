"""The tables of the uncertainty study: which rows they hold, and what their title says of them."""

import numpy as np
import pandas as pd
import pytest

from lib.runtime import REPO_ROOT
from lib.studies.table import read_table, wide
from lib.studies.uncertainty import ENSEMBLE, ESTIMATORS, HEADS
from lib.studies.uncertainty_measures import BASELINES
from lib.studies.uncertainty_tables import COLUMNS, all_estimators, first_seeds, first_seeds_title


@pytest.fixture(scope="module")
def lines() -> pd.DataFrame:
    return wide(read_table(REPO_ROOT / "figures" / "measured" / "uncertainty.csv"))


def test_the_default_stands_first_with_its_first_seed_alone_behind(lines):
    rows = all_estimators(lines)
    cases = list(rows["case"].unique())
    assert cases[:2] == ["beta 0.5", "beta 0.5, seed 0"]
    assert set(cases) == {"beta 0.5, seed 0", *HEADS, *ESTIMATORS, *BASELINES}
    mine = lines[(lines["row"] == "beta 0.5") & (lines["seed"] == 0)]
    again = rows[rows["case"] == "beta 0.5, seed 0"]
    np.testing.assert_array_equal(mine[list(COLUMNS)], again[list(COLUMNS)])


def test_what_states_no_variance_has_no_scale_as_predicted(lines):
    rows = all_estimators(lines).set_index("case")
    for case in ("plain SiamMAE", *BASELINES):
        assert rows.loc[[case], ["nll_raw", "ece_raw", "gap_steps_up"]].isna().all(axis=None)
    assert rows.loc[[ENSEMBLE], ["nll_raw", "ece_raw"]].notna().all(axis=None)


def test_first_seeds_have_a_row_each(lines):
    rows = first_seeds(lines)
    assert not rows["case"].duplicated().any() and "plain SiamMAE" not in set(rows["case"])
    assert len(rows) == len(HEADS) - 1 + len(ESTIMATORS) + len(BASELINES)


@pytest.mark.parametrize(
    ("spearman", "auroc", "words"), [(0.5, 0.8, ("Every", "one")), (0.2, 0.7, ("Not every", "none"))]
)
def test_the_title_says_what_the_rows_hold(spearman, auroc, words):
    rows = pd.DataFrame([
        {"case": "beta 0.5", "spearman": 0.6, "auroc_occluded": 0.6, "ece_isotonic": 0.02},
        {"case": "evidential", "spearman": spearman, "auroc_occluded": auroc, "ece_isotonic": 0.03},
        {"case": "constant sigma", "spearman": 0.3, "auroc_occluded": 0.9, "ece_isotonic": 0.01},
    ])  # fmt: skip
    title = first_seeds_title(rows)
    assert title.startswith(f"{words[0]} head") and f"{words[1]} reach" in title and "constant sigma is ahead" in title
