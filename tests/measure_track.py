"""What `python -m lib.track` takes, in seconds a frame and peak memory: a tall telephone video, 10 s and 60 s of 1080p.

    python tests/measure_track.py FOLDER

The pictures are the toy world's, enlarged. One line a video; FOLDER keeps the videos and what came of them. About 15
minutes on two cores.
"""

import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "data")]
FPS = 30
VIDEOS = {"tall telephone, 1080x1920, 10 s": 10, "1080p, 10 s": 10, "1080p, 60 s": 60}


def write_video(path: Path, seconds: int) -> Path:
    """1920x1080: a toy sequence, forwards and backwards, for so long."""
    from make_videos import write_frames

    from lib.data.davis import DavisDataset
    from lib.toyworld import ensure_toy_world

    sequence = DavisDataset(ensure_toy_world(ROOT / "data" / "toy") / "davis2017").sequences[0]
    frames = [np.array(Image.fromarray(frame).resize((1920, 1080))) for frame in sequence.iter_frames()]
    mask = Image.fromarray(sequence.mask(0)).resize((1920, 1080), Image.Resampling.NEAREST)
    mask.save(path.with_suffix(".png"))
    there_and_back = [*frames, *frames[-2:0:-1]]
    film = [there_and_back[t % len(there_and_back)] for t in range(FPS * seconds)]
    return write_frames(path, film, FPS, "libx264", preset="veryfast", crf="20")


def turned(video: Path, path: Path) -> Path:
    """The video as a telephone writes it that was held upright, and its mask upright, too."""
    from make_videos import with_matrix

    with Image.open(video.with_suffix(".png")) as mask:
        mask.transpose(Image.Transpose.ROTATE_270).save(path.with_suffix(".png"))
    return with_matrix(video, path, 0, 1, -1, 0)


def main(folder: Path) -> None:
    """Make the videos, one process for each, and print what they took."""
    folder.mkdir(parents=True, exist_ok=True)
    short, long = (write_video(folder / f"{seconds}.mp4", seconds) for seconds in (10, 60))
    videos = dict(zip(VIDEOS, (turned(short, folder / "tall.mp4"), short, long), strict=True))
    for name, video in videos.items():  # the largest child so far: small ones first
        out = folder / video.stem
        shutil.rmtree(out, ignore_errors=True)
        words = [sys.executable, "-m", "lib.track", str(video), str(video.with_suffix(".png")), "--out", str(out)]
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(words, cwd=ROOT, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        frames, used = FPS * VIDEOS[name], after.ru_utime - before.ru_utime
        wall = time.perf_counter() - start
        print(f"{name}: {wall / frames:.2f} s a frame, {used / frames:.2f} CPU s, peak {after.ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
