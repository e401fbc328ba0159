"""All figures are drawn in the notebooks' style, and closed."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import pytest

from lib.plots.style import use_style


@pytest.fixture(autouse=True)
def notebook_style() -> Iterator[None]:
    with plt.rc_context():
        use_style()
        yield
    plt.close("all")
