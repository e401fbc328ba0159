"""Differences between cases, tested seed by seed. Rows have `case`, `seed` and measures."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from scipy import stats

from lib.errors import UserError
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


def joint_differences(rows: pd.DataFrame, measures: Sequence[str], reference: str) -> pd.DataFrame:
    """Each other case minus `reference`: `joint_contrasts`, whose `name` is then `case`."""
    sides = {case: ((case,), (reference,)) for case in dict.fromkeys(rows["case"]) if case != reference}
    return joint_contrasts(rows, measures, sides).rename(columns={"name": "case"})


def joint_contrasts(
    rows: pd.DataFrame, measures: Sequence[str], sides: Mapping[str, tuple[Sequence[str], Sequence[str]]]
) -> pd.DataFrame:
    """Mean of some cases minus mean of others, with intervals that hold for all of a measure's contrasts at once.

    Cases and seeds are a randomised block design: of the seeds that all cases in `sides` have, what is left of a score
    after its case's and its seed's mean is taken as noise of one size for all (as in Dunnett's test, 1955). low, high:
    95 % jointly (Bonferroni over the contrasts). verdict: "higher" or "lower" where they leave 0 out, else "not shown".
    UserError where a case stands on both sides, or where fewer than two seeds are common to all.
    """
    if both := [name for name, (ours, theirs) in sides.items() if set(ours) & set(theirs)]:
        raise UserError(f"{both[0]}: a case stands on both sides; compare it with others")
    cases = list(dict.fromkeys(case for side in sides.values() for names in side for case in names))
    found = []
    for measure in measures:
        scores = rows[rows["case"].isin(cases)].pivot(index="case", columns="seed", values=measure).dropna(axis=1)
        number, seeds = scores.shape
        if number < max(2, len(cases)) or seeds < 2:
            raise UserError(f"{measure}: {number} of {len(cases)} cases with {seeds} seeds in common: give all, with 2")
        means, free = scores.mean(axis=1), (number - 1) * (seeds - 1)
        left = scores.sub(means, axis=0).sub(scores.mean() - float(means.mean())).to_numpy()
        noise = float((left**2).sum() / free)
        critical = stats.t.ppf(1 - 0.05 / len(sides) / 2, free)
        for name, (ours, theirs) in sides.items():
            mean = float(means[list(ours)].mean() - means[list(theirs)].mean())
            reach = critical * math.sqrt(noise / seeds * (1 / len(ours) + 1 / len(theirs)))
            verdict = "higher" if mean - reach > 0 else "lower" if mean + reach < 0 else "not shown"
            ends = {"mean": mean, "low": mean - reach, "high": mean + reach, "verdict": verdict}
            found.append({"name": name, "measure": measure, "seeds": seeds, **ends})
    return pd.DataFrame(found, columns=["name", "measure", "seeds", "mean", "low", "high", "verdict"])


def paired_contrasts(
    rows: pd.DataFrame, measures: Sequence[str], pairs: Mapping[str, tuple[str, str]]
) -> pd.DataFrame:  # fmt: skip
    """Second case of each pair less its first, seed by seed; columns as of `joint_contrasts`.

    For cases whose noise is not of one size: each pair has its own t-test. low, high: the 95 % interval of this
    difference alone. verdict: "higher" or "lower" where p is below 0.05 after Holm's correction over a measure's pairs.
    """
    by_case = {case: part.set_index("seed") for case, part in rows.groupby("case", sort=False)}
    found = []
    for measure in measures:
        sides = [[by_case[case][measure].dropna() for case in pair] for pair in pairs.values()]
        common = [list(before.index.intersection(after.index)) for before, after in sides]
        tests = [
            paired_difference(list(after[seeds]), list(before[seeds]))
            for (before, after), seeds in zip(sides, common, strict=True)
        ]
        corrected = holm([test.p_value for test in tests])
        for name, test, seeds, p in zip(pairs, tests, common, corrected, strict=True):
            verdict = "not shown" if p >= 0.05 else "higher" if test.mean > 0 else "lower"
            ends = {"mean": test.mean, "low": test.low, "high": test.high, "verdict": verdict}
            found.append({"name": name, "measure": measure, "seeds": len(seeds), **ends})
    return pd.DataFrame(found, columns=["name", "measure", "seeds", "mean", "low", "high", "verdict"])


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) correction: below alpha where the family's chance of a false finding is at most alpha."""
    corrected, floor = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda k: p_values[k])):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = floor
    return corrected
