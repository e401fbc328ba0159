"""Tables of the notebooks: settings as they are, measured values with the digits that their spread allows, claims."""

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import pandas as pd
from IPython.display import HTML

from lib.evaluation.intervals import Trend

MISSING = "–"
OPEN = ("missed", "shown not to hold", "not shown")  # verdicts on claims


def table(rows: list[dict] | pd.DataFrame, about: str, decimals: int | Mapping[str, int] | None = None) -> HTML:
    """A table for display in a notebook: no index, missing values as dashes, the line `about` above it.

    about: what was measured on what: data set, number of clips and frames, seeds.
    decimals: of measured values, for all columns or by column; a column without them shows its values `as_is`.
    """
    frame = pd.DataFrame(rows).astype(object)
    for column in frame:
        digits = decimals.get(column) if isinstance(decimals, Mapping) else decimals
        frame[column] = [as_is(value) if digits is None else rounded(value, digits) for value in frame[column]]
    return HTML(f"<div><i>{escape(about)}</i></div>\n" + frame.to_html(index=False, border=0, justify="left"))


def as_is(value: object) -> str:
    """A value in full and no longer: 0.95, 1.5e-4 (below 0.01), (0.5, 1); a dash for NaN."""
    if isinstance(value, tuple | list):
        return f"({', '.join(map(as_is, value))}{',' if len(value) == 1 else ''})"
    if pd.isna(value) and value is not None:
        return MISSING
    if isinstance(value, float) and 0 < abs(value) < 0.01:
        return np.format_float_scientific(value, trim="-", exp_digits=1)
    return np.format_float_positional(value, trim="-") if isinstance(value, float) else str(value)


def rounded(value: object, decimals: int) -> str:
    """A measured value: a float with so many decimals, anything else `as_is`."""
    is_number = isinstance(value, float) and not math.isnan(value)
    return f"{value:.{decimals}f}" if is_number else as_is(value)


def decimals_of(spread: float) -> int:
    """How many decimals show a value of this spread: the Particle Data Group's rule, which leaves the spread two
    digits where they are below 35 and one from there on.
    """
    size = math.floor(math.log10(spread))
    return max(0, (spread / 10**size < 3.55) - size)


def plus_minus(mean: float, spread: float, decimals: int) -> str:
    """Mean ± standard deviation, or the mean alone where there is none, as of one seed; a spread that would round to 0
    gets as many more decimals as its first digit needs.
    """
    if not spread > 0:
        return rounded(float(mean), decimals)
    digits = max(decimals, -math.floor(math.log10(spread))) if round(spread, decimals) == 0 else decimals
    return f"{mean:.{digits}f} ± {spread:.{digits}f}"


def with_interval(value: float, low: float, high: float) -> str:
    """`value [low, high]` in the digits that the interval's half width allows; the value alone without an interval."""
    if math.isnan(low) or math.isnan(high):
        return rounded(float(value), 3)
    digits = decimals_of((high - low) / 2) if high > low else 3
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def with_intervals(rows: pd.DataFrame, value: str = "mean") -> pd.DataFrame:
    """The rows with `value` and its columns `low` and `high` as one column, "difference"; `t low` and `t high`, where
    they are, as another, "Student's".
    """
    if {"t low", "t high"} <= set(rows):
        student = [f"[{low:.1f}, {high:.1f}]" for low, high in rows[["t low", "t high"]].to_numpy()]
        rows = rows.assign(**{"t low": student}).drop(columns="t high").rename(columns={"t low": "Student's"})
    shown = [with_interval(*ends) for ends in rows[[value, "low", "high"]].to_numpy()]
    return rows.assign(**{value: shown}).drop(columns=["low", "high"]).rename(columns={value: "difference"})


def spreads(rows: pd.DataFrame, by: str, measures: Sequence[str], decimals: int = 3) -> pd.DataFrame:
    """A row for each value of `by`: it, `seeds`, and mean ± standard deviation over them of each measure.

    A measure's digits are those that its largest spread allows; without any spread it has `decimals`, or none if whole.
    """
    grouped = rows.groupby(by, sort=False)
    result = pd.DataFrame({by: list(grouped.groups), "seeds": grouped.size().to_numpy()})
    for name in measures:
        found = grouped[name].agg(["mean", "std"])
        whole = (found["mean"].dropna() % 1 == 0).all()
        digits = decimals_of(found["std"].max()) if found["std"].max() > 0 else 0 if whole else decimals
        result[name] = [plus_minus(mean, spread, digits) for mean, spread in found.to_numpy()]
    return result


def trend_rows(trends: Mapping[str, Trend]) -> list[dict]:
    """A row for each quantity: at how many steps it rises, and whether that is certain."""
    return [
        {"quantity": name,
         "steps up, as estimated": f"{(found.steps.value > 0).sum()} of {len(found.steps.value)}",
         "a step down is shown": found.falls_somewhere,
         "Kendall's tau": with_interval(*found.kendall),
         "p, Page's test": f"{found.p_value:.1g}"}
        for name, found in trends.items()
    ]  # fmt: skip


def claim(words: str, found: Sequence[float], least: float = -math.inf, most: float = math.inf) -> dict[str, str]:
    """A row: `found` must be at least or at most something. It is (value, low, high) or a value alone, (value,).

    An interval decides: "shown" where it lies on the wanted side whole, "shown not to hold" where it lies on the other,
    else "not shown". A value alone is "reached" or "missed".
    """
    value, *ends = map(float, found)
    low, high = ends or (value, value)
    alone = as_is(int(value)) if value.is_integer() else rounded(value, 3)
    holds, fails = least <= low and high <= most, high < least or low > most
    words_of = ("shown", "shown not to hold", "not shown") if ends else ("reached", "missed", "missed")
    return {
        "claim": words,
        "measured": with_interval(value, low, high) if ends else alone,
        "wanted": f"at least {least:g}" if math.isfinite(least) else f"at most {most:g}",
        "verdict": words_of[0 if holds else 1 if fails else 2],
    }


def claim_of_test(words: str, row: Mapping) -> dict[str, str]:
    """A row of lib.evaluation.differences as the claim that its difference is above 0; its corrected test decides."""
    verdict = {"higher": "shown", "lower": "shown not to hold"}.get(row["verdict"], "not shown")
    measured = with_interval(row["mean"], row["low"], row["high"])
    return {"claim": words, "measured": measured, "wanted": "above 0, after Holm", "verdict": verdict}


def with_ends(row: Mapping, measure: str) -> tuple[float, float, float]:
    """A measure of a report's row and its interval."""
    return row[measure], row[f"{measure}_low"], row[f"{measure}_high"]


def open_claims(claims: Sequence[Mapping[str, str]]) -> str:
    """What does not hold or is not shown, a list for each verdict."""
    lines = []
    for verdict in OPEN:
        found = [f"- {row['claim']}: {row['measured']}" for row in claims if row["verdict"] == verdict]
        lines += [f"{verdict}:", *(found or ["- nothing"])]
    return "\n".join(lines)
