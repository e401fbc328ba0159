"""Differences between cases, tested seed by seed. Rows have `case`, `seed` and measures."""

from collections.abc import Sequence

import pandas as pd

from lib.evaluation.intervals import paired_difference


def differences(rows: pd.DataFrame, measures: Sequence[str], reference: str) -> pd.DataFrame:
    """Each other case minus `reference`, seed by seed, with the paired t-test of lib.evaluation.intervals.

    low, high: the 95 % interval of this difference alone. p_holm: p_value corrected for the number of rows. verdict:
    "higher" or "lower" where p_holm is below 0.05, else "not shown". Cases that have fewer than two seeds in common
    with the reference are left out.
    """
    tests = []
    by_case = {case: part.set_index("seed") for case, part in rows.groupby("case", sort=False)}
    for case, part in by_case.items():
        for name in measures:
            values, theirs = part[name].dropna(), by_case[reference][name].dropna()
            seeds = values.index.intersection(theirs.index)
            if case != reference and len(seeds) >= 2:
                difference = paired_difference(list(values[seeds]), list(theirs[seeds]))
                tests.append({"case": case, "measure": name, "seeds": len(seeds), **difference._asdict()})
    table = pd.DataFrame(tests, columns=["case", "measure", "seeds", "mean", "low", "high", "p_value"])
    table["p_holm"] = holm(list(table["p_value"]))
    shown = [
        ("higher" if mean > 0 else "lower") if p < 0.05 else "not shown"
        for mean, p in zip(table["mean"], table["p_holm"], strict=True)
    ]
    return table.assign(verdict=shown)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) correction: below alpha where the family's chance of a false finding is at most alpha."""
    corrected, floor = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda k: p_values[k])):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = floor
    return corrected
