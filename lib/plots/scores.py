"""Rows for the tables of scores, in percent: choices of protocols, effects of single factors, Table 1, gains."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from lib.evaluation.differences import holm
from lib.evaluation.intervals import paired_difference
from lib.evaluation.protocols import PROTOCOLS, Fit, Protocol, assumed
from lib.plots.tables import MISSING, as_is, with_interval

TABLE1 = {
    "JF_mean": "davis_J&F", "J_mean": "davis_J", "F_mean": "davis_F", "mIoU": "vip_mIoU",
    "PCK@0.1": "jhmdb_PCK@0.1", "PCK@0.2": "jhmdb_PCK@0.2",
}  # fmt: skip


def protocol_rows(columns: Mapping[str, tuple[str, Protocol]]) -> list[dict[str, str]]:
    """A row for each choice; columns: heading -> (its name, the protocol). * marks what its source does not state."""
    fields = asdict(next(iter(columns.values()))[1])
    return [
        {"choice": field, **{heading: _choice(*column, field) for heading, column in columns.items()}}
        for field in fields
    ]


def _choice(name: str, protocol: Protocol, field: str) -> str:
    value = getattr(protocol, field)
    if field == "joint_cells" and "jhmdb" not in PROTOCOLS[name]:
        return MISSING
    if field == "input_size" and value is None:
        return "native"
    if isinstance(value, Fit):
        return f"{value.side} side {value.length}"
    return as_is(value) + "*" * assumed(name, field)


def effects(study: pd.DataFrame) -> pd.DataFrame:
    """How far J&F moves from the base when one factor changes: the most lost and gained, and by which value.

    `study`: columns `factor`, `value`, `is_base`, `JF_mean`. The factor that loses most comes first.
    """
    rows = []
    for factor, variants in study.groupby("factor", sort=False):
        scores, base = variants["JF_mean"], variants[variants["is_base"]].iloc[0]
        row = {"factor": factor, "base": base["value"]}
        for end, change, place in (("worst", "lost", scores.idxmin()), ("best", "gained", scores.idxmax())):
            row |= {end: variants.loc[place, "value"], f"points {change}": scores[place] - base["JF_mean"]}
        rows.append(row)
    return pd.DataFrame(rows).sort_values("points lost")


def table1(
    published: Mapping[str, pd.DataFrame], ours: pd.DataFrame, made_by: Mapping[str, tuple[str, str]]
) -> pd.DataFrame:
    """SiamMAE's Table 1: published rows, then ours.

    published: heading -> long rows with `method`, `encoder`, `pretraining`, `metric`, `value`, `source`. ours: a row a
    method. made_by: its encoder and pretraining, by method.
    """
    keys = ["rows of", "method", "encoder", "pretraining", "source"]
    long = pd.concat([rows.assign(**{"rows of": heading}) for heading, rows in published.items()])
    wide = long.pivot_table(index=keys, columns="metric", values="value", sort=False)[list(TABLE1.values())]
    about = pd.DataFrame([made_by[method] for method in ours["method"]], columns=["encoder", "pretraining"])
    scores = ours.filter([*TABLE1]).rename(columns=TABLE1)
    rows = pd.concat([about.assign(**{"rows of": "ours", "method": ours["method"]}), scores], axis=1)
    return pd.concat([wide.reset_index().rename(columns={"source": "read in"}), rows])


def gains(
    scores: pd.DataFrame, measures: Mapping[str, str], pairs: Sequence[tuple[str, str]], family: Sequence[str]
) -> pd.DataFrame:
    """Differences of methods, seed by seed, with 95 % t intervals; each family of tests has Holm's correction.

    scores: columns `seed`, `method` and the measures, which have words. pairs: (ours, rival). family: of each pair.
    """
    rows = []
    for (ours, rival), name in zip(pairs, family, strict=True):
        for measure, words in measures.items():
            by_seed = scores.pivot(index="seed", columns="method", values=measure)
            difference = paired_difference(by_seed[ours], by_seed[rival])
            rows.append({"method": ours, "measure": words, "against": rival, "family": name, **difference._asdict()})
    table = pd.DataFrame(rows)
    table["p, Holm"] = table.groupby("family")["p_value"].transform(lambda values: holm(list(values)))
    table["gain"] = [with_interval(*ends) for ends in table[["mean", "low", "high"]].to_numpy()]
    certain = table["p, Holm"] < 0.05
    table["verdict"] = np.select([certain & (table["mean"] > 0), certain], ["higher", "lower"], "not shown")
    return table
