"""What notebook 09 says: contrasts by hand, rows that exist, spectra and overview of a made-up table."""

import pandas as pd
import pytest

from lib.studies import wavelet_tables as tables
from lib.studies.wavelets import ROWS

NAMES = {row.name for row in ROWS}


def test_all_contrasts_are_of_rows_that_exist():
    pairs = [two for family in tables.FAMILIES.values() for two in family.values()]
    assert {name for two in pairs for name in two} <= NAMES


def made_up() -> pd.DataFrame:
    """Two rows, two seeds, three rings."""
    lines = []
    for row, accuracy in (("MAE", 60.0), ("wavelets, scatter", 57.0)):
        for seed in (0, 1):
            line = {"row": row, "seed": seed, "steps": 10, "seconds": 1.0, "parameters": 2.5e6, "probe": 40.0 + seed}
            line |= {"accuracy": accuracy + seed, "error": 0.5, "sharpness": 0.4}
            rings = {
                f"{name} {ring}": value / ring
                for name, value in (("power", 1.0), ("agreement", 0.5))
                for ring in (8, 9, 12)
            }
            lines.append(line | rings)
    return pd.DataFrame(lines)


@pytest.mark.parametrize("unequal", [False, True])
def test_a_contrast_is_the_second_less_the_first(monkeypatch, unequal):
    monkeypatch.setitem(tables.FAMILIES, "steps", {"a step": ("MAE", "wavelets, scatter")})
    monkeypatch.setattr(tables, "UNEQUAL", ("steps",) if unequal else ())
    found = tables.contrasts(made_up(), "steps")
    assert found["name"].tolist() == ["a step"] * 2 and found["measure"].tolist() == list(tables.MEASURES)
    assert found[["mean", "low", "high"]].to_numpy().tolist() == [[-3.0] * 3, [0.0] * 3]
    assert found["verdict"].tolist() == ["lower", "not shown"] and found["seeds"].tolist() == [2, 2]
    assert tables.in_words(found, "steps").iloc[0, :3].tolist() == [
        "a step",
        "wavelets, scatter less MAE",
        "fine-tuned (%)",
    ]
    dots = tables.for_dots(found)
    assert list(dots) == ["case", "accuracy", "accuracy_low", "accuracy_high", "probe", "probe_low", "probe_high"]
    assert dots.loc[0, ["case", "accuracy", "probe"]].tolist() == ["a step", -3.0, 0.0]


def test_families_of_unequal_noise_exist():
    assert set(tables.UNEQUAL) < set(tables.FAMILIES)


def test_an_overview_has_means_ends_and_the_finest_rings():
    (first, second) = tables.overview(made_up(), ["MAE", "wavelets, scatter"]).to_dict("records")
    assert first["fine-tuned (%)"] == 60.5 and (first["lowest"], first["highest"]) == (60.0, 61.0)
    assert first["parameters"] == "2.50 M" and first["seeds"] == 2 and second["case"] == "wavelets, scatter"
    assert first["agreement above 8 cycles"] == pytest.approx((0.5 / 9 + 0.5 / 12) / 2)


def test_spectra_have_a_line_for_each_ring():
    found = tables.spectra(made_up(), {"MAE": "plain"})
    assert found["case"].unique().tolist() == ["plain"] and found["cycles"].tolist() == [8, 9, 12] * 2
    assert found["power"].tolist() == pytest.approx([1 / 8, 1 / 9, 1 / 12] * 2)
