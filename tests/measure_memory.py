"""Peak memory of notebooks 01 to 06 on 200 and on 2,000 tiny clips, with as many training steps; about 15 minutes.

    python tests/measure_memory.py FOLDER [NOTEBOOK ...]

One line a notebook and size: megabytes of the largest process, and papermill's exit status. FOLDER keeps the clips.
"""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
SIZES, DISTINCT = (200, 2000), 24
EPOCHS = {"01": None, "02": 600, "03": 600, "04": 300, "05": 600, "06": 600}  # over the number of clips


def make_world(root: Path, clips: int) -> None:
    """Kinetics' layout with `clips` videos to train on and a tenth of them to hold out, and a few DAVIS sequences."""
    from make_davis import make_davis, moving_squares
    from make_videos import write_frames

    rng = np.random.default_rng(0)
    sources = []
    for number in range(DISTINCT):
        picture = rng.integers(0, 256, (9, 11, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        frames = [np.roll(picture, t, 1) for t in range(70)]
        (root / "sources").mkdir(parents=True, exist_ok=True)
        sources.append(write_frames(root / "sources" / f"{number}.mp4", frames, 30, "libx264", preset="ultrafast"))
    for split, count in (("train", clips), ("val", clips // 10)):
        for number in range(count):
            folder = root / "kinetics400" / split / f"class{number % 6}"
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(sources[number % DISTINCT], folder / f"{split}{number:05d}_000001_000011.mp4")
    make_davis(root / "davis2017", {f"s{number:03d}": moving_squares(2, 12) for number in range(clips // 100)})


def run(notebook: Path, folder: Path, clips: int) -> str:
    """Run one notebook; this process must have had no other child."""
    root, number = folder / str(clips), notebook.name[:2]
    given = ["-p", "data_root", root, "-p", "out_dir", folder / f"out{clips}"]
    given += ["-p", "epochs", EPOCHS[number] / clips] if EPOCHS[number] else []
    given += ["-p", "finetune_epochs", 100 / clips] if number == "04" else []
    given += ["-y", "{eval_size: [48, 64], blocks: [-1], eval_frames: 6}"] if number == "06" else []
    command = [
        sys.executable,
        "-m",
        "papermill",
        notebook,
        folder / f"{notebook.stem}_{clips}.ipynb",
        "-k",
        "python3",
        *given,
    ]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return f"{notebook.stem} {clips} clips: {peak:.0f} MB, exit status {done.returncode}"


def main() -> None:
    """Every notebook and size in a process of its own, whose largest child is then the notebook's kernel."""
    folder, *names = sys.argv[1:]
    if os.environ.get("MEASURED"):
        print(run(Path(names[0]), Path(folder), int(names[1])))
        return
    for clips in SIZES:
        if not (Path(folder) / str(clips)).is_dir():
            make_world(Path(folder).resolve() / str(clips), clips)
    for notebook in sorted((ROOT / "notebooks").glob("0[1-6]*.ipynb")):
        for clips in SIZES if not names or notebook.stem in names else ():
            words = [sys.executable, __file__, Path(folder).resolve(), notebook, clips]
            subprocess.run(list(map(str, words)), check=True, env={**os.environ, "MEASURED": "1"})


if __name__ == "__main__":
    main()
