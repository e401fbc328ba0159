"""`python -m lib.track VIDEO MASK --out DIR`: follow what a mask, or points, show in the first frame of any video.

VIDEO is a file or a folder of numbered frames. DIR gets `masks/` (a palette PNG of ids for each frame), `points.csv`,
`overlay.mp4` (H.264) and `sheet.png` (frames at even distances). Frames pass one by one: an hour needs no more memory
than a second. DIR appears when all is done, or not at all.
"""

import argparse
import glob
import platform
import shutil
import sys
import time
from functools import partial
from itertools import chain, tee
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from lib.errors import UserError, cli
from lib.models.pretrained import load_encoder
from lib.runtime import REPO_ROOT, atomic_path, progress
from lib.track.given import read_first_mask, read_points
from lib.track.propagating import protocol_for, track
from lib.track.source import open_source
from lib.track.writing import open_results

WEIGHTS = REPO_ROOT / "notebooks" / "weights" / "siammae.pt"


class Done(NamedTuple):
    """What came of it."""

    frames: int
    seconds: float  # of work
    note: str  # what is odd about the video, "" if nothing


def track_video(
    video: Path, mask: Path | None, out: Path, points: Path | None = None, weights: str | Path = WEIGHTS,
    block: int = -1, short_side: int = 240, device: str | None = None,
) -> Done:  # fmt: skip
    """Everything that the command does; arguments as there. UserError, and nothing left, if anything is amiss."""
    if mask is None and points is None:
        raise UserError("nothing to follow: give a MASK of the first frame, --points FILE, or both")
    out = out.resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: is there already; choose another folder, or delete it")
    for path in filter(None, (video, mask, points)):  # before weights, which may have to be fetched
        if not path.exists():
            raise UserError(f"{path}: no such file or folder; correct the path")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    encoder = load_encoder(weights)
    try:
        encoder.to(device)
    except (RuntimeError, AssertionError) as error:  # torch's, of a device that is none or is not there
        raise UserError(f"device {device}: {str(error).splitlines()[0]}") from None
    if short_side < encoder.patch_size:
        raise UserError(f"size {short_side} is less than a patch of {encoder.patch_size}; give some of them")
    source = open_source(video)
    frames = source.frames()
    first = next(frames)  # tells the size
    size = first.picture.shape[:2]
    shots, for_network = tee(chain([first], frames))
    ids = None if mask is None else read_first_mask(mask, size)
    given = None if points is None else read_points(points, size)
    protocol = protocol_for(size, short_side, encoder.patch_size)
    tracked = track(
        (shot.picture for shot in for_network), size, ids, None if given is None else given.places,
        partial(encoder.features, block=block), encoder.patch_size, protocol, device,
    )  # fmt: skip
    start, number = time.perf_counter(), 0
    _clear(out)
    with atomic_path(out) as folder:
        folder.mkdir()
        with open_results(folder, size, ids is not None, given and given.names) as results:
            for shot, result in progress(zip(shots, tracked, strict=True), out.name, total=source.expected):
                results.add(shot, result)
                number += 1
    return Done(number, time.perf_counter() - start, source.note)


def _clear(out: Path) -> None:
    """Remove what a killed run for this folder left beside it: `.NAME.PROCESS@HOST.partial`, of no process here."""
    for left in out.parent.glob(f".{glob.escape(out.stem)}.*@{glob.escape(platform.node())}.partial*"):
        process = left.name.removeprefix(f".{out.stem}.").partition("@")[0]
        if process.isdecimal() and not psutil.pid_exists(int(process)) and left.is_dir():
            shutil.rmtree(left)


@cli
def main(arguments: list[str] | None = None) -> None:
    """The command line; see `--help`."""
    parser = argparse.ArgumentParser(prog="python -m lib.track", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("video", type=Path, help="any video file, or a folder of numbered frames")
    add("mask", type=Path, nargs="?", help="PNG of the first frame: ids (palette or grey), or a colour an object")
    add("--points", type=Path, help="csv of points in the first frame: columns x, y and, optionally, name; in pixels")
    add("--out", type=Path, required=True, help="folder for the results; it must be new or empty")
    known = "a file, hf://owner/repository/file, or a timm ViT's name"
    add("--weights", default=WEIGHTS, help=f"{known} (default: a small SiamMAE of ours)")
    add("--block", type=int, default=-1, help="encoder block whose output is compared (default: the last)")
    add("--size", type=int, default=240, dest="short_side", help="short side that the network sees, pixels")
    add("--device", help="cpu or cuda (default: a GPU where there is one)")
    args = parser.parse_args(arguments)
    done = track_video(**vars(args))
    if done.note:
        print(f"{args.video}: {done.note}")
    pace = f"{done.seconds / done.frames:.2f} s a frame"
    print(f"{args.out}: {done.frames} frames in {done.seconds:.0f} s ({pace})")


if __name__ == "__main__":
    sys.exit(main())
