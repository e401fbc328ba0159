"""What the tables and figures of scores are made of: choices of protocols, rows of Table 1, gains over seeds, effects.

Scores are percent, differences percentage points. Shapes: `H W` pixels, `h w` patch grid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.evaluation.differences import holm
from lib.evaluation.intervals import paired_difference
from lib.evaluation.protocols import PROTOCOLS, Fit, Protocol, assumed
from lib.plots.bars import score_bars
from lib.plots.pictures import heat_on_frame
from lib.plots.tables import MISSING, as_is, with_interval

TABLE1 = {
    "JF_mean": "davis_J&F",
    "J_mean": "davis_J",
    "F_mean": "davis_F",
    "mIoU": "vip_mIoU",
    "PCK@0.1": "jhmdb_PCK@0.1",
    "PCK@0.2": "jhmdb_PCK@0.2",
}
PANELS = {
    "objects": {"JF_mean": "J&F"},
    "body parts": {"mIoU": "mIoU"},
    "joints": {k: k for k in ("PCK@0.1", "PCK@0.2")},
}


# --- protocols ----------------------------------------------------------------------------------------------


def protocol_rows(columns: Mapping[str, tuple[str, Protocol]]) -> list[dict[str, str]]:
    """A row for each choice, `columns`: heading -> (name of the protocol, the protocol).

    * marks what the protocol's source does not state.
    """
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
    base = study.loc[study["is_base"], "JF_mean"].iloc[0]
    rows = []
    for factor, variants in study.groupby("factor", sort=False):
        worst, best = (variants.loc[place] for place in (variants["JF_mean"].idxmin(), variants["JF_mean"].idxmax()))
        rows.append(
            {
                "factor": factor,
                "base": variants.loc[variants["is_base"], "value"].iloc[0],
                "worst": worst["value"],
                "points lost": worst["JF_mean"] - base,
                "best": best["value"],
                "points gained": best["JF_mean"] - base,
            }
        )
    return pd.DataFrame(rows).sort_values("points lost")


# --- scores -------------------------------------------------------------------------------------------------


def task_bars(table: pd.DataFrame, data: Mapping[str, str]) -> Figure:
    """A bar for each method, a panel for each task that has columns in `table`; `data`: task -> the data set's name."""
    rows = [
        {"method": row["method"], "task": f"{task}\n{data[task]}", "metric": metric, "value": row[column]}
        for row in table.to_dict("records")
        for task, metrics in PANELS.items()
        for column, metric in metrics.items()
        if column in row
    ]
    return score_bars(pd.DataFrame(rows))


def table1(published: Mapping[str, pd.DataFrame], ours: pd.DataFrame, made_by: Mapping[str, tuple[str, str]]):
    """SiamMAE's Table 1: published rows, then ours.

    published: heading -> long rows with `method`, `encoder`, `pretraining`, `metric`, `value`, `source`. ours: a row a
    method. made_by: its encoder and pretraining, by method.
    """
    keys = ["rows of", "method", "encoder", "pretraining", "source"]
    long = pd.concat([rows.assign(**{"rows of": heading}) for heading, rows in published.items()])
    wide = long.pivot_table(index=keys, columns="metric", values="value", sort=False)[list(TABLE1.values())]
    rows = []
    for row in ours.to_dict("records"):
        encoder, pretraining = made_by[row["method"]]
        about = {"rows of": "ours", "method": row["method"], "encoder": encoder, "pretraining": pretraining}
        rows.append(about | {name: row[key] for key, name in TABLE1.items() if key in row})
    return pd.concat([wide.reset_index().rename(columns={"source": "read in"}), pd.DataFrame(rows)])


def gains(
    scores: pd.DataFrame, measures: Mapping[str, str], pairs: Sequence[tuple[str, str]], family: Sequence[str]
) -> pd.DataFrame:
    """Differences of methods, seed by seed, with 95 % t intervals; each family of tests has Holm's correction.

    scores: columns `seed`, `method` and the measures, which `measures` gives words. pairs: (ours, rival). family: a
    name for each pair.
    """
    rows = []
    for (ours, rival), name in zip(pairs, family, strict=True):
        for measure, words in measures.items():
            by_seed = scores.pivot(index="seed", columns="method", values=measure)
            difference = paired_difference(by_seed[ours], by_seed[rival])
            rows.append({"method": ours, "measure": words, "against": rival, "family": name, **difference._asdict()})
    table = pd.DataFrame(rows)
    table["p, Holm"] = table.groupby("family")["p_value"].transform(lambda values: holm(list(values)))
    intervals = zip(table["mean"], table["low"], table["high"], strict=True)
    table["gain"] = [with_interval(*values) for values in intervals]
    certain = table["p, Holm"] < 0.05
    table["verdict"] = np.select([certain & (table["mean"] > 0), certain], ["higher", "lower"], "not shown")
    return table


# --- attention ----------------------------------------------------------------------------------------------


def centre_of_largest(ids: np.ndarray) -> tuple[float, float]:
    """The largest object's pixel nearest to its centre, (H, W) ids -> (y, x) as shares of the height and width."""
    points = np.argwhere(ids == np.bincount(ids[ids > 0]).argmax())
    y, x = points[np.linalg.norm(points - points.mean(axis=0), axis=1).argmin()]
    return (y + 0.5) / ids.shape[0], (x + 0.5) / ids.shape[1]


def ringed(frame: np.ndarray, place: tuple[float, float]) -> np.ndarray:
    """The frame (H, W, 3) uint8 with a white ring at `place` (y, x), shares of the height and width."""
    y, x = np.mgrid[: frame.shape[0], : frame.shape[1]]
    away = np.hypot(y - place[0] * frame.shape[0], x - place[1] * frame.shape[1]) / min(frame.shape[:2])
    return np.where((np.abs(away - 0.05) < 0.012)[..., None], 255, frame).astype(np.uint8)


def heads_on_frame(frame: np.ndarray, maps: np.ndarray) -> list[np.ndarray]:
    """Attention maps (heads, h, w) over the frame on one scale, from 0 to the highest of all."""
    return [heat_on_frame(frame, values, (0, maps.max())) for values in maps]
