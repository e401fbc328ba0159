"""What notebook 07 says of the ablations: each table against the default, the paper's claims, and orders.

`lines` is the study's table in wide form. Scores are percent. Other people's numbers are figures/paper/ablations.csv:
`table`, `case` (our row that they stand beside), `source`, `value`.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from lib.evaluation.differences import joint_contrasts, joint_differences
from lib.studies.ablations import DEFAULT, SHORT, TABLES
from lib.studies.table import chosen

MEASURES = {"JF_mean": "J&F", "mIoU": "mIoU", "PCK@0.1": "PCK@0.1"}
MARGIN = 2.0  # points: what is no further off is "nearly as good"
RATIOS = ("0.5", "0.75", "0.95")


def rows_of(lines: pd.DataFrame, table: str) -> pd.DataFrame:
    """The default and the rows of one table: a line for each `case` and `seed`."""
    there = set(lines["row"])
    return chosen(lines, [name for name in (DEFAULT.name, *(row.name for row in TABLES[table])) if name in there])


def against_default(rows: pd.DataFrame) -> pd.DataFrame:
    """Each case of `rows_of` less the default, for each of MEASURES: see `joint_differences`."""
    return joint_differences(rows, list(MEASURES), DEFAULT.name)


def conclusion(tests: pd.DataFrame, measure: str = "JF_mean") -> str:
    """What the tests show of one measure, in words."""
    tests = tests[tests["measure"] == measure]
    parts = []
    for verdict in ("higher", "lower"):
        found = tests[tests["verdict"] == verdict]
        names = [f"{row.case} ({row.mean:+.1f})" for row in found.itertuples()]
        if names:
            parts.append(f"{verdict} than the default: {', '.join(names)}")
    others = (tests["verdict"] == "not shown").sum()
    rest = f"{others} of {len(tests)} not shown to differ" if parts else "no row is shown to differ from the default"
    return f"{MEASURES[measure]}: " + "; ".join([*parts, rest] if others else parts)


def beside(rows: pd.DataFrame, tests: pd.DataFrame, others: pd.DataFrame, show: Callable) -> pd.DataFrame:
    """A row a case: mean J&F, the differences of all measures, the verdict in J&F, and a column for each source.

    show: of (mean, low, high) -> text. A source that says nothing of a case has None.
    """
    table = []
    for case, part in rows.groupby("case", sort=False):
        line = {"case": case, "seeds": len(part), "J&F": float(part["JF_mean"].mean())}
        for name, words in MEASURES.items():
            found = tests[(tests["case"] == case) & (tests["measure"] == name)]
            line[f"{words}, difference"] = show(*found[["mean", "low", "high"]].iloc[0]) if len(found) else None
        for source, theirs in others.groupby("source", sort=False):
            value = theirs.loc[theirs["case"] == case, "value"]
            line[source] = float(value.iloc[0]) if len(value) and pd.notna(value.iloc[0]) else None
        table.append(line)
    return pd.DataFrame(table)


# --- The paper's claims ---

# claim -> (rows that should be ahead, rows that should be behind), of which the means are compared
DESIGNS = ("siamese encoder, cross decoder", "siamese encoder, joint decoder")
JOINT = (
    "joint encoder, cross-self decoder", "joint encoder, cross decoder", "joint encoder, joint decoder (FrameMAE)"
)  # fmt: skip
CLAIMS = {
    "siamese encoder over joint, mean of three decoders": ((DEFAULT.name, *DESIGNS), JOINT),
    "cross-self decoder over cross": ((DEFAULT.name,), DESIGNS[:1]),
    "cross decoder over joint": (DESIGNS[:1], DESIGNS[1:]),
    "asymmetric mask over symmetric, mean of three ratios": (
        ("ratio 0.5", "ratio 0.75", DEFAULT.name), tuple(f"symmetric, ratio {ratio}" for ratio in RATIOS),
    ),
    "ratio 0.95 over 0.5, 0.75 and 0.9": ((DEFAULT.name,), ("ratio 0.5", "ratio 0.75", "ratio 0.9")),
    "random gap 4 to 24 over fixed 4, 8 and 16": ((DEFAULT.name,), ("gap 4", "gap 8", "gap 16")),
    "no colour jitter over colour jitter": ((DEFAULT.name,), ("colour jitter 0.4, both alike",)),
}  # fmt: skip
NEARLY = "crops of one frame nearly as good as two frames"
CROPS = ((DEFAULT.name,), ("gap 0, crop in crop",))


def claims(lines: pd.DataFrame) -> pd.DataFrame:
    """Each claim and measure: the mean difference, its joint 95 % interval (`joint_contrasts`), a verdict.

    "supports" and "contradicts" where the interval lies on one side of 0, else "cannot tell". Of NEARLY: that the
    default is ahead by at most MARGIN, or by more.
    """
    rows = lines.rename(columns={"row": "case"})
    tests = joint_contrasts(rows, list(MEASURES), {**CLAIMS, NEARLY: CROPS}).rename(columns={"name": "claim"})
    words = {"higher": "supports", "lower": "contradicts", "not shown": "cannot tell"}
    tests["verdict"] = tests["verdict"].map(words)
    near = tests["claim"] == NEARLY
    tests.loc[near, "verdict"] = "cannot tell"
    tests.loc[near & (tests["high"] <= MARGIN), "verdict"] = "supports"
    tests.loc[near & (tests["low"] > MARGIN), "verdict"] = "contradicts"
    return tests


# --- Orders ---


def rank_correlations(lines: pd.DataFrame, others: pd.DataFrame, measure: str = "JF_mean") -> pd.DataFrame:
    """Kendall's tau of our order with each source's, by table: of the mean over seeds, lowest and highest of a seed.

    Sources that give fewer than three of our rows order too little and are left out.
    """
    found = []
    for (source, table), theirs in others.dropna(subset="value").groupby(["source", "table"], sort=False):
        theirs = theirs.set_index("case")["value"]
        ours = lines[lines["row"].isin(theirs.index)].pivot(index="seed", columns="row", values=measure).dropna()
        if ours.shape[1] < 3:
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
    """The rows that were trained at full length, too: mean of each measure, as the others are trained and in full."""
    means = lines.groupby("row")[list(MEASURES)].mean()
    rows = [name for name, long in SHORT.items() if {name, long} <= set(means.index)]
    table = {"case": rows}
    for measure, words in MEASURES.items():
        table[words] = [means.loc[name, measure] for name in rows]
        table[f"{words}, full length"] = [means.loc[SHORT[name], measure] for name in rows]
    return pd.DataFrame(table)


def order_kept(table: pd.DataFrame) -> dict[str, float]:
    """Kendall's tau between the two lengths of `full_length`, by measure."""
    return {
        words: float(kendalltau(table[words], table[f"{words}, full length"]).statistic) if len(table) > 1 else np.nan
        for words in MEASURES.values()
    }
