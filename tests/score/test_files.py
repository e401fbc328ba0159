"""What the scores of masks have in common: ids of another size, sequences scored in parallel."""

import os
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from make_davis import make_davis, moving_squares

from lib.data.davis import DavisDataset
from lib.errors import UserError
from lib.score.files import each_sequence, nearest


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9))), st.tuples(st.integers(1, 20), st.integers(1, 20))
)
def test_nearest_takes_the_id_under_the_centre(ids, size):
    result = nearest(ids, size)
    assert result.shape == size and result.dtype == np.uint8
    for y, x in np.ndindex(*size):
        # exactly between two ids either one is nearest
        rows, columns = (
            {int((2 * c + 1) * n // (2 * m)), int(np.ceil((2 * c + 1) * n / (2 * m))) - 1}
            for c, n, m in zip((y, x), ids.shape, size, strict=True)
        )
        assert result[y, x] in {ids[row, column] for row in rows for column in columns}


def test_workers_keep_the_order_and_their_death_is_told(tmp_path):
    dataset = DavisDataset(make_davis(tmp_path, {"zebra": moving_squares(1, 9), "ant": moving_squares(2, 7)}))
    assert each_sequence(len, dataset, 2) == each_sequence(len, dataset, 1) == [9, 7]
    if sys.platform == "linux":
        with pytest.raises(UserError, match="a worker was killed"):
            each_sequence(die, dataset, 2)


def die(sequence):
    os._exit(9)
