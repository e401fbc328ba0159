"""What notebook 07 says of the ablations: each table against the default, the paper's claims, and orders.

`lines` is the study's table in wide form. Scores are percent. Other people's numbers are figures/paper/ablations.csv:
`table`, `case` (our row that they stand beside), `source`, `measure`, `value`.
"""

import math
from collections.abc import Callable, Mapping

import pandas as pd
from scipy.stats import kendalltau

from lib.evaluation.differences import joint_contrasts, joint_differences
from lib.studies.ablations import DEFAULT, SHORT, TABLES
from lib.studies.table import chosen

MEASURES = {"JF_mean": "J&F", "mIoU": "mIoU", "PCK@0.1": "PCK@0.1"}
UNTRAINED = "untrained"  # saw none of its seed's data, so has no place in the block design: it is shown, not tested
MARGIN = 2.0  # points of J&F: what is no further off is "nearly as good"
COLUMNS = ["case", "measure", "seeds", "mean", "low", "high", "verdict"]


def rows_of(lines: pd.DataFrame, table: str) -> pd.DataFrame:
    """The default and the rows of one table: a line for each `case` and `seed`."""
    there = set(lines["row"])
    return chosen(lines, [name for name in (DEFAULT.name, *(row.name for row in TABLES[table])) if name in there])


def against(rows: pd.DataFrame, reference: str = DEFAULT.name) -> pd.DataFrame:
    """Each trained case less the reference, for each of MEASURES that is there: see `joint_contrasts`.

    Cases that share fewer than two seeds with the reference and the cases before them are left out.
    """
    seeds, cases = {case: set(part["seed"]) for case, part in rows.groupby("case", sort=False)}, []
    common = seeds.get(reference, set())
    for case in seeds:
        if case not in (reference, UNTRAINED) and len(common & seeds[case]) > 1:
            common = common & seeds[case]
            cases.append(case)
    if not cases:
        return pd.DataFrame(columns=COLUMNS)
    measures = [name for name in MEASURES if name in rows]
    return joint_differences(rows[rows["case"].isin([reference, *cases])], measures, reference)


def conclusion(tests: pd.DataFrame, reference: str = "the default") -> str:
    """What the tests show, all measures together, in words."""
    parts, measures = [], tests["measure"].nunique()
    found = {case: part["verdict"].value_counts() for case, part in tests.groupby("case", sort=False)}
    open_cases = sum(set(counts.index) == {"not shown"} for counts in found.values())
    for verdict in ("higher", "lower"):
        whole = [case for case, counts in found.items() if counts.get(verdict, 0) == measures]
        part = [
            f"{case} ({counts[verdict]})" for case, counts in found.items() if 0 < counts.get(verdict, 0) < measures
        ]
        if whole:
            where = f" in all {measures} measures" if measures > 1 else ""
            parts.append(f"{verdict.capitalize()} than {reference}{where}: {'; '.join(whole)}")
        if part:
            parts.append(f"{verdict.capitalize()} in some measures (how many): {'; '.join(part)}")
    if not found:
        return "Too few seeds to compare"
    if not parts:
        return f"None of {len(found)} is shown to differ from {reference}{' in any measure' * (measures > 1)}"
    rest = [f"{open_cases} of {len(found)} not shown to differ"] if open_cases else []
    return ". ".join([*parts, *rest])


def beside(rows: pd.DataFrame, tests: pd.DataFrame, others: pd.DataFrame, show: Callable) -> pd.DataFrame:
    """A row a case: parameters, mean J&F, the standard deviation of its difference over seeds, the differences of all
    measures, and a column for each source.

    show: of (mean, low, high) -> text. A source has NaN where it says nothing, "not found" where its number is missing.
    """
    table, scores = [], rows.pivot(index="seed", columns="case", values="JF_mean")
    for case, part in rows.groupby("case", sort=False):
        line = {"case": case, "seeds": len(part), "parameters": f"{part['parameters'].iloc[0] / 1e6:.2f} M"}
        line |= {"J&F": float(part["JF_mean"].mean())}
        line["sd of difference"] = (
            float((scores[case] - scores[DEFAULT.name]).std()) if case != DEFAULT.name else math.nan
        )
        for name, words in MEASURES.items():
            found = tests[(tests["case"] == case) & (tests["measure"] == name)]
            line[f"{words}, difference"] = show(*found[["mean", "low", "high"]].iloc[0]) if len(found) else math.nan
        for (source, measure), theirs in others.groupby(["source", "measure"], sort=False):
            value = theirs.loc[theirs["case"] == case, "value"]
            missing = "not found" if len(value) else math.nan
            line[f"{source}, {measure}"] = float(value.iloc[0]) if len(value) and pd.notna(value.iloc[0]) else missing
        table.append(line)
    return pd.DataFrame(table)


# --- The paper's claims ---

CROSS, JOINED = "siamese encoder, cross decoder", "siamese encoder, joint decoder"
# claim -> the rows that it says are ahead and behind, one pair for each alternative
CLAIMS = {
    "siamese encoder over joint": (
        (DEFAULT.name, "joint encoder, cross-self decoder"), (CROSS, "joint encoder, cross decoder"),
        (JOINED, "joint encoder, joint decoder (FrameMAE)"),
    ),
    "cross-self decoder over cross": ((DEFAULT.name, CROSS),),
    "cross decoder over joint": ((CROSS, JOINED),),
    "asymmetric mask over symmetric": (
        ("ratio 0.5", "symmetric, ratio 0.5"), ("ratio 0.75", "symmetric, ratio 0.75"),
        (DEFAULT.name, "symmetric, ratio 0.95"),
    ),
    "ratio 0.95 over lower ones": tuple((DEFAULT.name, f"ratio {ratio}") for ratio in (0.5, 0.75, 0.9)),
    "random gap over fixed ones in its range": tuple((DEFAULT.name, f"gap {gap}") for gap in (4, 8, 16)),
    "no colour jitter over colour jitter": ((DEFAULT.name, "colour jitter 0.4, both alike"),),
}  # fmt: skip
NEARLY = f"crops of one frame nearly as good, at most {MARGIN:g} behind"
CROPS = (DEFAULT.name, "gap 0, crop in crop")


def claims(lines: pd.DataFrame) -> pd.DataFrame:
    """A line for each claim, alternative and measure: `joint_contrasts` over all of a measure, and the claim's verdict.

    A claim is supported where all its alternatives are shown to be behind, contradicted where one is shown to be ahead;
    else the data cannot tell. NEARLY is judged by its margin, in J&F alone. Claims whose rows do not all share two
    seeds or more, also with the claims before them, are left out.
    """
    rows = lines.rename(columns={"row": "case"})
    seeds = {case: set(part["seed"]) for case, part in rows.groupby("case", sort=False)}
    common, wanted = set.union(*seeds.values()), {}
    for claim, pairs in {**CLAIMS, NEARLY: (CROPS,)}.items():
        shared = common.intersection(*(seeds.get(name, set()) for two in pairs for name in two))
        if len(shared) > 1:
            common, wanted[claim] = shared, pairs
    sides = {(claim, *two): ((two[0],), (two[1],)) for claim, pairs in wanted.items() for two in pairs}
    if not sides:
        return pd.DataFrame(columns=["claim", "ahead", "behind", *COLUMNS[1:], "claim's verdict"])
    tests = joint_contrasts(rows, list(MEASURES), sides)
    tests = pd.concat([pd.DataFrame([*tests.pop("name")], columns=["claim", "ahead", "behind"]), tests], axis=1)
    tests = tests[(tests["claim"] != NEARLY) | (tests["measure"] == "JF_mean")].reset_index(drop=True)
    verdicts = {key: verdict_of(key[0], part) for key, part in tests.groupby(["claim", "measure"], sort=False)}
    tests["claim's verdict"] = [verdicts[key] for key in zip(tests["claim"], tests["measure"], strict=True)]
    return tests


def verdict_of(claim: str, tests: pd.DataFrame) -> str:
    """What the tests of a claim's alternatives, in one measure, say of it."""
    if claim == NEARLY:
        supports, contradicts = (tests["high"] <= MARGIN).all(), (tests["low"] > MARGIN).any()
    else:
        supports, contradicts = (tests["verdict"] == "higher").all(), (tests["verdict"] == "lower").any()
    return "supports" if supports else "contradicts" if contradicts else "cannot tell"


def summary_of(tests: pd.DataFrame) -> pd.DataFrame:
    """A row a claim: its verdict in each measure."""
    table = tests.pivot_table(index="claim", columns="measure", values="claim's verdict", aggfunc="first", sort=False)
    return (
        table[[name for name in MEASURES if name in table]]
        .rename(columns=MEASURES)
        .rename_axis(columns=None)
        .reset_index()
    )


# --- Orders ---


def rank_correlations(lines: pd.DataFrame, others: pd.DataFrame, measure: str = "JF_mean") -> pd.DataFrame:
    """Kendall's tau of our order in J&F with each source's, by table: of the mean over seeds, lowest and highest seed.

    Sources that give J&F of fewer than three of our rows order too little and are left out.
    """
    found = []
    known = others[others["measure"] == MEASURES[measure]].dropna(subset="value")
    for (source, table), theirs in known.groupby(["source", "table"], sort=False):
        theirs = theirs.set_index("case")["value"]
        ours = lines[lines["row"].isin(theirs.index)].pivot(index="seed", columns="row", values=measure).dropna()
        if ours.shape[1] < 3 or ours.empty:
            continue
        of_seeds = [tau(values, theirs) for _, values in ours.iterrows()]
        row = {"table": table, "their order": source, "rows": ours.shape[1], "tau": tau(ours.mean(), theirs)}
        found.append({**row, "lowest seed": min(of_seeds), "highest seed": max(of_seeds)})
    return pd.DataFrame(found)


def tau(ours: Mapping[str, float] | pd.Series, theirs: pd.Series) -> float:
    """Kendall's tau-b over the cases that `ours` has."""
    names = list(ours.keys())
    return float(kendalltau([ours[name] for name in names], theirs[names]).statistic)


def full_length(lines: pd.DataFrame) -> pd.DataFrame:
    """The rows that were trained with the whole batch, too, each less the default that was trained as it was.

    `case`, `measure`, and the columns of `against` for both; those of the whole batch have " long" in their names.
    """
    short = chosen(lines, [name for name in SHORT if name in set(lines["row"])])
    long = chosen(lines, {long: name for name, long in SHORT.items() if long in set(lines["row"])})
    return against(short).merge(against(long), on=["case", "measure"], suffixes=("", " long"))
