"""Curves over frequency: a mean over seeds for each name, reference lines; schedules beside their logs."""

import numpy as np
import pandas as pd

from lib.plots import spectra


def test_each_name_has_its_mean_and_its_seeds():
    rows = pd.DataFrame(
        {"case": case, "seed": seed, "cycles": ring, "power": level / ring + seed, "agreement": level / 10}
        for case, level in (("plain", 1.0), ("waves", 2.0), ("unused", 9.0))
        for seed in (0, 1)
        for ring in (1, 2, 3, 4)
    )
    figure = spectra.spectrum_figure(rows, ["plain", "waves"], 4, "found")
    for axis, measure in zip(figure.axes, spectra.PANELS, strict=True):
        curves = {line.get_label(): line.get_ydata() for line in axis.lines if not line.get_label().startswith("_")}
        assert list(curves) == ["plain", "waves"]
        expected = rows[rows["case"] == "waves"].groupby("cycles")[measure].mean()
        np.testing.assert_allclose(curves["waves"], expected)
        assert len(axis.lines) == 2 * (2 + 1) + 2  # seeds and mean of two names, two reference lines
    assert figure.axes[0].get_yscale() == "log" and figure.axes[1].get_legend() is not None


def test_a_schedule_stands_beside_its_log():
    figure = spectra.schedule_figure({"one": np.arange(5.0), "two": np.ones(3)}, {"one": {3: 3.0}, "two": {2: 1.0}})
    assert [axis.get_title() for axis in figure.axes] == ["one", "two"]
    curve, dots = figure.axes[0].lines
    assert curve.get_ydata().tolist() == [0, 1, 2, 3, 4] and dots.get_xdata() == [3] and dots.get_ydata() == [3]
