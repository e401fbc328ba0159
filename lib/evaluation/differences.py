"""The tables of lib.studies.uncertainty as notebooks/05_uncertainty reads them: chosen rows, tested differences.

Rows have `case`, `seed` and measures; J&F is in percent.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from lib.evaluation.intervals import paired_difference

HEADS = (
    "beta 0.5", "beta 0", "beta 1", "beta 1, head detached", "beta 0.5, gap unknown", "evidential", "dropout 0.1",
    "beta 0.5, 4 times as long", "4 times, memory with positions", "10 times, memory with positions", "plain SiamMAE",
)  # fmt: skip
MASKINGS = {
    "beta 0.5": "uniform random",
    "easy-first": "easy-first",
    "hard-first": "hard-first",
    "curriculum": "curriculum",
    "true motion shown": "true motion shown",
    "AdaMAE's sampler": "AdaMAE's sampler",
}


def chosen(rows: pd.DataFrame, names: Sequence[str] | Mapping[str, str], seeds: int | None = None) -> pd.DataFrame:
    """The rows of these cases, in this order, under new names if it is a mapping; of the first `seeds` alone."""
    names = names if isinstance(names, Mapping) else {name: name for name in names}
    present = rows[rows["case"].isin(list(names))]
    present = present if seeds is None else present[present["seed"] < seeds]
    order = {case: place for place, case in enumerate(names)}
    present = present.sort_values("case", key=lambda cases: cases.map(order), kind="stable")
    return present.assign(case=present["case"].map(names))


def differences(rows: pd.DataFrame, measures: Sequence[str], reference: str) -> pd.DataFrame:
    """Each other case minus `reference`, seed by seed, with the paired t-test of lib.evaluation.intervals.

    Columns: case, measure, seeds, mean, low, high (the 95 % interval of this difference alone), p_value, p_holm (that
    corrected for the number of rows), and verdict: "higher" or "lower" where p_holm is below 0.05, else "not shown".
    Cases that share fewer than two seeds with the reference are left out.
    """
    found = []
    by_case = {case: part.set_index("seed") for case, part in rows.groupby("case", sort=False)}
    for case, part in by_case.items():
        for name in measures:
            values, theirs = part[name].dropna(), by_case[reference][name].dropna()
            seeds = values.index.intersection(theirs.index)
            if case != reference and len(seeds) >= 2:
                difference = paired_difference(list(values[seeds]), list(theirs[seeds]))
                found.append({"case": case, "measure": name, "seeds": len(seeds), **difference._asdict()})
    table = pd.DataFrame(found, columns=["case", "measure", "seeds", "mean", "low", "high", "p_value"])
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
