"""The tables of lib.uncertainty_study as notebooks/05_uncertainty reads them: spreads over seeds, tested differences.

Rows have `case`, `seed` and measures; J&F is in percent.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from lib.evaluation.intervals import paired_difference

HEADS = (
    "beta 0.5", "beta 0", "beta 1", "beta 1, head detached", "beta 0.5, gap unknown", "evidential", "dropout 0.1",
    "beta 0.5, 4 times as long", "that, memory with positions", "plain SiamMAE",
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


def spreads(rows: pd.DataFrame, measures: Sequence[str], decimals: int = 3) -> pd.DataFrame:
    """A row a case: `case`, `seeds`, and mean ± standard deviation of each measure over them (the mean alone for one).

    What a case has no number of is a dash.
    """
    grouped = rows.groupby("case", sort=False)
    table = pd.DataFrame({"case": list(grouped.groups), "seeds": grouped.size().to_numpy()})
    for name in measures:
        found = grouped[name].agg(["mean", "std"]).to_numpy()
        table[name] = [_spread(mean, deviation, decimals) for mean, deviation in found]
    return table


def _spread(mean: float, deviation: float, decimals: int) -> str:
    if pd.isna(mean):
        return "–"
    return f"{mean:.{decimals}f}" + ("" if pd.isna(deviation) else f" ± {deviation:.{decimals}f}")


def differences(rows: pd.DataFrame, measures: Sequence[str], reference: str) -> pd.DataFrame:
    """Each other case minus `reference`, seed by seed, with the paired t-test of lib.evaluation.intervals.

    Columns: case, measure, seeds, mean, low, high, p_value, and verdict: "higher", "lower", or "not shown" where the
    95 % interval holds 0. Tests are not corrected for their number. Cases that share fewer than two seeds with the
    reference are left out.
    """
    found = []
    by_case = {case: part.set_index("seed") for case, part in rows.groupby("case", sort=False)}
    for case, part in by_case.items():
        for name in measures:
            values = part[name].dropna()
            theirs = by_case[reference][name].dropna()
            seeds = values.index.intersection(theirs.index)
            if case == reference or len(seeds) < 2:
                continue
            difference = paired_difference(list(values[seeds]), list(theirs[seeds]))
            verdict = "not shown" if difference.low <= 0 <= difference.high else "higher"
            verdict = "lower" if difference.high < 0 else verdict
            found.append(
                {"case": case, "measure": name, "seeds": len(seeds), **difference._asdict(), "verdict": verdict}
            )
    return pd.DataFrame(found, columns=["case", "measure", "seeds", "mean", "low", "high", "p_value", "verdict"])
