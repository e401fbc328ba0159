"""What notebook 09 says of the wavelets: what the loss of accuracy is made of, and the detail of reconstructions.

`lines` is the study's table in wide form; accuracies are percent. The report's own numbers are
figures/paper/wavelet_report.csv: `table`, `model`, `epoch`, `quantity`, `value`.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from lib.evaluation.differences import joint_contrasts, paired_contrasts
from lib.studies.table import chosen

MEASURES = {"accuracy": "fine-tuned (%)", "probe": "linear probe (%)"}
# Steps from MAE to the wavelet model, from a row to the next. "The pseudo-grid" is two things at once: tokens stand in
# random order, and on a map of 4 x 4, whose 4 cells are the only keys, where the scattered tokens fill about 11 of 16.
FAMILIES = {
    "instead of attention": {
        "the path without wavelets": ("MAE", "no wavelets, scatter"),
        "wavelets as such": ("no wavelets, scatter", "wavelets, scatter"),
        "the pseudo-grid": ("wavelets, scatter", "wavelets, pseudo-grid"),
        "all three": ("MAE", "wavelets, pseudo-grid"),
    },
    "the report's form": {
        "the path without wavelets": ("report's MAE", "report's no wavelets, scatter"),
        "wavelets as such": ("report's no wavelets, scatter", "report's wavelets, scatter"),
        "the pseudo-grid": ("report's wavelets, scatter", "report's wavelets"),
        "all three": ("report's MAE", "report's wavelets"),
    },
    "the report's schedule": {
        "the long warm-up, MAE": ("report's MAE", "report's MAE, long warm-up"),
        "the long warm-up, wavelets": ("report's wavelets", "report's wavelets, long warm-up"),
        "all three, with the long warm-up": ("report's MAE, long warm-up", "report's wavelets, long warm-up"),
    },
    "controls": {
        "more blocks": ("MAE", "MAE, 7 blocks"),
        "wavelets against as many parameters": ("MAE, 7 blocks", "wavelets, scatter"),
        "cells masked, without wavelets": ("MAE", "MAE, cells masked"),
        "cells masked, with wavelets": ("wavelets, scatter", "wavelets, cell"),
    },
    "pre-training": {
        "pre-training of MAE": ("MAE, untrained", "MAE"),
        "pre-training with wavelets": ("wavelets, untrained", "wavelets, scatter"),
        "pre-training on the pseudo-grid": ("wavelets, untrained", "wavelets, pseudo-grid"),
        "pre-training of the report's wavelets": ("report's wavelets, untrained", "report's wavelets"),
        "wavelets that it did not reach": ("MAE", "wavelets, untrained"),
    },
    "at its rate": {
        "all three": ("report's MAE, its rate", "report's wavelets, its rate"),
        "pre-training of MAE": ("report's MAE, untrained, its rate", "report's MAE, its rate"),
        "pre-training with wavelets": ("report's wavelets, untrained, its rate", "report's wavelets, its rate"),
        "wavelets that it did not reach": ("report's MAE, its rate", "report's wavelets, untrained, its rate"),
    },
}
UNEQUAL = ("the report's form", "the report's schedule", "pre-training", "at its rate")  # families of unequal noise


def contrasts(lines: pd.DataFrame, family: str, measures: Sequence[str] = tuple(MEASURES)) -> pd.DataFrame:
    """What each pair of a family has in its second row more than in its first.

    `joint_contrasts`, whose intervals hold together; but `paired_contrasts`, whose verdicts do, where some rows differ
    much more between seeds than others.
    """
    rows, pairs = lines.rename(columns={"row": "case"}), FAMILIES[family]
    if family in UNEQUAL:
        return paired_contrasts(rows, measures, pairs)
    return joint_contrasts(rows, measures, {name: ((after,), (before,)) for name, (before, after) in pairs.items()})


def in_words(tests: pd.DataFrame, family: str) -> pd.DataFrame:
    """Contrasts of a family for a table: which row less which, and the measures in words."""
    rows = [" less ".join(reversed(FAMILIES[family][name])) for name in tests["name"]]
    tests = tests.assign(measure=tests["measure"].map(MEASURES))
    tests.insert(1, "row less row", rows)
    return tests


def for_dots(tests: pd.DataFrame) -> pd.DataFrame:
    """Contrasts as lib.plots.bars.dot_panels reads them: a row a contrast, each measure with its low and high."""
    columns = {"mean": "", "low": "_low", "high": "_high"}
    parts = [
        part.set_index("name")[list(columns)].rename(columns=lambda name, measure=measure: measure + columns[name])
        for measure, part in tests.groupby("measure", sort=False)
    ]
    return pd.concat(parts, axis=1).rename_axis("case").reset_index()


def spectra(lines: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """A line for each named row, seed and ring: `case`, `seed`, `cycles`, `power` and `agreement`."""
    mine = chosen(lines, names)
    rings = [int(name.split()[1]) for name in mine if name.startswith("power ")]
    parts = [
        mine[["case", "seed"]].assign(cycles=ring, power=mine[f"power {ring}"], agreement=mine[f"agreement {ring}"])
        for ring in rings
    ]
    return pd.concat(parts).sort_values(["case", "seed", "cycles"], ignore_index=True)


def overview(lines: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """A row for each named row, means over seeds: parameters, accuracies with the fine-tuned one's lowest and highest
    seed, error, sharpness, agreement at high frequencies.
    """
    table = []
    for name, part in chosen(lines, names).groupby("case", sort=False):
        high = [column for column in part if column.startswith("agreement ") and int(column.split()[1]) > 8]
        row = {"case": name, "seeds": len(part), "parameters": f"{part['parameters'].iloc[0] / 1e6:.2f} M"}
        row |= {words: float(part[measure].mean()) for measure, words in MEASURES.items()}
        row |= {"lowest": float(part["accuracy"].min()), "highest": float(part["accuracy"].max())}
        row |= {name: float(part[name].mean()) for name in ("error", "sharpness")}
        table.append({**row, "agreement above 8 cycles": float(part[high].mean().mean())})
    return pd.DataFrame(table)
