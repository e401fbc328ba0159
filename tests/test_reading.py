"""How much of lib the reader of one training run opens, from the notebook's cell to the gradient step."""

import sys
from pathlib import Path

import make
from lib import presets
from lib.data.clips import FramePairs, collate_pairs
from lib.data.kinetics import list_kinetics, scan_videos
from lib.models.siammae import SiamMAE
from lib.toyworld import ToyWorldOptions, ensure_toy_world
from lib.training import fit

LIB = make.ROOT / "lib"
WORLD = ToyWorldOptions(
    datasets=("kinetics400",), height=72, width=96, objects=2, kinetics_train=4, kinetics_val=0, kinetics_frames=75
)


def files_that_run(work) -> set[Path]:
    """The files of lib of which a function runs within `work()`."""
    seen = set()

    def note(frame, event, _):
        if event == "call" and frame.f_code.co_filename.startswith(str(LIB)):
            seen.add(Path(frame.f_code.co_filename))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return seen


def test_it_is_ten_files_and_fifteen_hundred_lines_at_most(tmp_path):
    clips = scan_videos(list_kinetics(ensure_toy_world(tmp_path / "toy", WORLD, workers=1) / "kinetics400")).clips
    settings = presets.get(presets.SIAMMAE, "toy", epochs=1, batch_size=4, frame_size=72)
    pairs = FramePairs(clips, **settings.pair_arguments(), frame_cache=tmp_path / "frames")
    model = SiamMAE(**settings.model_arguments())
    opened = files_that_run(lambda: fit(model, pairs, settings, tmp_path / "run", collate=collate_pairs))
    lines = {path.relative_to(LIB).as_posix(): len(path.read_text().splitlines()) for path in opened}
    assert {"training.py", "models/siammae.py", "data/decoding.py"} <= set(lines)  # the tracer sees something
    assert len(lines) <= 10 and sum(lines.values()) <= 1500, lines
