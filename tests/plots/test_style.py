"""A finished figure says what it is of and keeps its numbers."""

import matplotlib.pyplot as plt
import pandas as pd
from PIL import Image

from lib.plots import style


def test_a_finished_figure_says_what_it_is_of_and_keeps_its_numbers(tmp_path):
    numbers = pd.DataFrame({"x": [1, 2]})

    def size(about: str) -> tuple[int, int]:
        figure, _ = plt.subplots(figsize=(4, 2))
        style.finish(figure, tmp_path / "figures" / "01_a.b", about, numbers)
        with Image.open(tmp_path / "figures" / "01_a.b.png") as picture:
            return picture.size

    (_, low), (_, high) = size("short"), size("a data set, so many clips, this seed; " * 6)
    assert high > low  # the words stand below the picture, on lines of their own
    assert pd.read_csv(tmp_path / "figures" / "01_a.b.csv").equals(numbers)
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["01_a.b.csv", "01_a.b.png"]
