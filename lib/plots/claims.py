"""Conclusions as a table: each claim with its number, what is wanted of it, and whether it holds."""

import math
from collections.abc import Mapping, Sequence

from lib.plots.tables import as_is, rounded, with_interval

OPEN = ("missed", "shown not to hold", "not shown")


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
