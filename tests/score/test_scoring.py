"""What the scores share, and JHMDB's on the command line."""

import json
import os
import re
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from make_davis import make_davis, moving_squares
from PIL import Image
from scipy.io import savemat

from lib.data.davis import DavisDataset
from lib.errors import UserError
from lib.score.__main__ import main
from lib.score.files import each_sequence, nearest
from lib.score.jhmdb import score_jhmdb, write_joints


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


def test_jhmdb_on_the_command_line(tmp_path, capsys):
    """Two clips of 4 frames of 24 x 40; the files of one are right, of the other 30 pixels off."""
    root, out = tmp_path / "jhmdb", tmp_path / "scores.json"
    joints = np.random.default_rng(0).uniform(1, 9, (4, 15, 2)).round()
    for index, name in enumerate(("a", "b")):
        images = root / "Rename_Images" / "walk" / name
        images.mkdir(parents=True)
        for t in range(4):
            Image.new("RGB", (40, 24)).save(images / f"{t + 1:05d}.png")
        (root / "joint_positions" / "walk" / name).mkdir(parents=True)
        savemat(root / "joint_positions" / "walk" / name / "joint_positions.mat", {"pos_img": joints.T + 1})
        write_joints(tmp_path / "results" / f"{index}.dat", joints + [30 * index, 0], (24, 40), grid=40)
    (root / "splits").mkdir()
    (root / "splits" / "walk_test_split2.txt").write_text("a.avi 2\nb.avi 2\n")
    command = ["jhmdb", "--truth", str(root), "--predictions", str(tmp_path / "results"), "--json", str(out)]
    assert main([*command, "--split", "2", "--grid", "40"]) == 0
    written = json.loads(out.read_text())
    assert written == score_jhmdb(root, tmp_path / "results", split=2, grid=40) and written["PCK@0.1"] == 0.5
    assert re.search(r"^PCK@0.1 +0.5000$", capsys.readouterr().out, re.MULTILINE)
    assert main([*command, "--split", "all", "--grid", "40", "--max-frames", "2"]) == 0
    assert json.loads(out.read_text())["joints"]["neck"]["counted"] == 2
    out.unlink()
    assert main(command) == 2  # there is no split 1
    printed = capsys.readouterr()
    assert re.match("error: unknown split .* choose one of 2", printed.err) and printed.err.count("\n") == 1
    assert not out.exists()
