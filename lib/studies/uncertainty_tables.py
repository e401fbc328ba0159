"""The tables that notebook 05 reads from the study of lib.studies.uncertainty: `lines` is its table in wide form."""

import numpy as np
import pandas as pd

from lib.studies.table import chosen
from lib.studies.uncertainty import ESTIMATORS, HEADS
from lib.studies.uncertainty_measures import BASELINES

COLUMNS = {
    "spearman": "Spearman", "ause_ratio": "AUSE", "nll_raw": "NLL as predicted", "nll": "NLL", "crps": "CRPS",
    "ece_raw": "ECE as predicted", "ece": "ECE", "ece_isotonic": "ECE isotonic", "sharpness": "sharpness",
    "rmse": "RMSE", "auroc_occluded": "AUROC occluded", "auroc_occluded_or_seen": "AUROC occluded or seen",
    "epistemic_share": "epistemic share", "gap_steps_up": "steps up", "JF_block2": "J&F, block 2",
    "JF_block-1": "J&F, last block",
}  # fmt: skip
AUROC_TARGET = 0.75


def all_estimators(lines: pd.DataFrame) -> pd.DataFrame:
    """All models, the default's first seed once more by itself, and the estimators of several models or passes; without
    what guesses and a plain SiamMAE have "as predicted": they state no variance.
    """
    heads, others = chosen(lines, HEADS), chosen(lines, [*ESTIMATORS, *BASELINES])
    default = heads["case"] == "beta 0.5"
    first = heads[default & (heads["seed"] == 0)].assign(case="beta 0.5, seed 0")
    rows = pd.concat([heads[default], first, heads[~default], others], ignore_index=True)
    silent = rows["case"].isin(["plain SiamMAE", *BASELINES])
    rows.loc[silent, ["nll_raw", "ece_raw", "gap_steps_up"]] = np.nan
    return rows


def first_seeds(lines: pd.DataFrame) -> pd.DataFrame:
    """Seed 0 of each head that states a variance, then the estimators and guesses: a row for each."""
    heads = chosen(lines, [name for name in HEADS if name != "plain SiamMAE"], seeds=1)
    return pd.concat([heads, chosen(lines, [*ESTIMATORS, *BASELINES])], ignore_index=True)


def first_seeds_title(rows: pd.DataFrame) -> str:
    """What `first_seeds` show, in words: heads against guesses in ranking, the best AUROC, the lowest ECE."""
    heads, guesses = (rows[rows["case"].isin(names)] for names in (HEADS, BASELINES))
    above = heads["spearman"].min() > guesses["spearman"].max()
    reached = heads["auroc_occluded"].max() >= AUROC_TARGET
    lowest = rows.loc[rows["ece_isotonic"].idxmin(), "case"]
    return (
        f"{'Every' if above else 'Not every'} head ranks errors better than every guess; "
        f"{'one reaches' if reached else 'none reaches'} AUROC {AUROC_TARGET}; in ECE {lowest} is ahead"
    )
