"""Probe every video of a Kinetics folder once and write what was found to a manifest.

    python data_scripts/prepare_kinetics.py --root data/kinetics400 --split train --manifest
    data/kinetics400/train.csv

Interrupt it at any time: the manifest is rewritten whole once a minute, and the next run goes on from there.
Videos that could not be read are tried again. `scan_videos(..., manifest=...)` then opens no video.
"""

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that `lib` is found from any folder

from lib.data.kinetics import list_kinetics, probe_all, read_manifest, write_manifest  # noqa: E402
from lib.data.video import VideoInfo  # noqa: E402
from lib.errors import UserError, cli  # noqa: E402
from lib.runtime import progress  # noqa: E402

SAVE_SECONDS = 60


def prepare(root: str | Path, split: str, manifest: str | Path, workers: int) -> str:
    """Complete the manifest for one split; return a line that counts what was found.

    Raises UserError when the folder holds no videos or none of them can be read.
    """
    paths = list_kinetics(root, split)
    known = read_manifest(manifest) if Path(manifest).is_file() else {}
    todo = [path for path in paths if not isinstance(known.get(path.resolve()), VideoInfo)]
    saved = time.monotonic()
    for path, info in progress(probe_all(todo, workers), f"probe {split}", len(paths), len(paths) - len(todo)):
        known[path] = info
        if time.monotonic() - saved > SAVE_SECONDS:
            write_manifest(manifest, known)
            saved = time.monotonic()
    write_manifest(manifest, known)
    bad = {path: known[path.resolve()] for path in paths if isinstance(known[path.resolve()], str)}
    line = f"{manifest}: {len(paths)} videos, {len(paths) - len(bad)} readable"
    if bad:
        path, reason = next(iter(bad.items()))
        line += f", {len(bad)} not (first {path}: {reason})"
    if len(bad) == len(paths):
        raise UserError(f"{line}; check the folder")
    return line


@cli
def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="data set folder or list file (see lib.data.kinetics)")
    parser.add_argument("--split", default="train", help="folder of the split: train or val (default: train)")
    parser.add_argument("--manifest", required=True, help="CSV file to write")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="videos probed at a time (default: cores)")
    args = parser.parse_args()
    if args.workers < 1:
        raise UserError(f"--workers {args.workers}: must be at least 1")
    print(prepare(args.root, args.split, args.manifest, args.workers))


if __name__ == "__main__":
    sys.exit(main())
