"""One factor at a time: marks stand at their settings, ratios are to the default."""

import numpy as np
import pandas as pd
from matplotlib.collections import PathCollection

from lib.plots import factors


def sensitivity(factors: dict[str, tuple[list, object]]) -> pd.DataFrame:
    """Scores of each value of each factor, given as (values, base value)."""
    return pd.DataFrame(
        {"factor": factor, "value": value, "is_base": value == base, "JF_mean": 30.0 + place}
        for factor, (values, base) in factors.items()
        for place, value in enumerate(values)
    )


FACTORS = {
    "temperature": ([0.7, 0.05, 0.1], 0.1),  # in no order
    "queue": ([0, 1, 20], 20),
    "block": ([10, 11, 12], 11),
    "shape": (["disc", "square"], "disc"),
    "padded_start": ([True, False], False),
}


def test_base_is_marked_once_a_panel():
    figure = factors.sensitivity_figure(sensitivity(FACTORS))
    assert len(figure.axes) == len(FACTORS)
    for axis, (values, base) in zip(figure.axes, FACTORS.values(), strict=True):
        place = base if axis.get_xlabel() in ("temperature", "queue (frames)", "block") else values.index(base)
        upright = [line for line in axis.lines if list(line.get_ydata()) == [0, 1]]
        assert [line.get_xdata()[0] for line in upright] == [place]
        (ring,) = (ring for ring in axis.collections if isinstance(ring, PathCollection))
        assert ring.get_offsets().tolist() == [[place, 30 + values.index(base)]]
        assert [text.get_text() for text in axis.texts].count("base") == 1


def test_sensitivity_axes_suit_their_values():
    figure = factors.sensitivity_figure(sensitivity(FACTORS))
    assert [axis.get_xscale() for axis in figure.axes] == ["log", "symlog", "linear", "linear", "linear"]
    labels = [[label.get_text() for label in axis.get_xticklabels()] for axis in figure.axes]
    assert labels == [["0.05", "0.1", "0.7"], ["0", "1", "20"], ["10", "11", "12"], ["disc", "square"], ["yes", "no"]]
    assert figure.axes[0].get_xlabel() == "temperature" and figure.axes[1].get_xlabel() == "queue (frames)"
    assert {axis.get_ylim() for axis in figure.axes} == {figure.axes[0].get_ylim()}  # one scale
    assert [axis.get_ylabel() for axis in figure.axes] == ["J&F (%)", "", "", "J&F (%)", ""]
    line = figure.axes[0].lines[1]
    assert list(line.get_xdata()) == [0.05, 0.1, 0.7] and list(line.get_ydata()) == [31, 32, 30]


def test_crowded_ticks_keep_the_base_label():
    figure = factors.sensitivity_figure(sensitivity({"top_k": ([1, 18, 19, 20], 19)}))
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["1", "", "19", ""]


def test_costs_are_ratios_to_the_default():
    rows = pd.DataFrame({"factor": "masking ratio", "value": [0.75, 0.9, 0.95], "amount": [16.0, 15.0, 12.0]})
    rows = rows.assign(source="paper", measure="memory")
    ours = rows.assign(source="ours", amount=3 * rows["amount"])  # other units, same ratios
    blocks = [
        {"factor": "decoder blocks", "value": n, "amount": 4 + n, "source": "ours", "measure": "time"}
        for n in (4, 1, 8)
    ]
    defaults = {"masking ratio": 0.95, "decoder blocks": 4}
    figure, numbers = factors.cost_figure(pd.concat([rows, ours, pd.DataFrame(blocks)]), defaults)
    left, right = figure.axes
    np.testing.assert_allclose(left.lines[0].get_ydata(), [16 / 12, 15 / 12, 1])
    np.testing.assert_allclose(left.lines[1].get_ydata(), left.lines[0].get_ydata())
    assert list(right.lines[0].get_xdata()) == [1, 4, 8] and list(right.lines[0].get_ydata()) == [5 / 8, 1, 12 / 8]
    assert [axis.get_xlabel() for axis in figure.axes] == list(defaults)
    assert len(numbers) == 9
