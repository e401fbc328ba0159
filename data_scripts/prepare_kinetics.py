"""Probe every video of a Kinetics folder once and leave what was found there, in `video_manifest.csv`.

    python data_scripts/prepare_kinetics.py --root data/kinetics400 --split train

Notebooks and studies then look the videos up instead of opening each. Interrupt it at any time: the manifest is
rewritten whole once a minute, and the next run goes on from there. Run it again when videos were added or replaced:
only those and the ones that could not be read are probed.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that `lib` is found from any folder

from lib.data.kinetics import list_kinetics  # noqa: E402
from lib.data.manifest import MANIFEST, complete_manifest  # noqa: E402
from lib.errors import UserError, cli  # noqa: E402
from lib.runtime import cpu_cores  # noqa: E402


def prepare(root: Path, split: str, manifest: Path | None, workers: int) -> str:
    """Complete the data set's manifest for one split; return a line that counts what was found."""
    paths = list_kinetics(root, split)
    manifest = manifest or (root if root.is_dir() else root.parent) / MANIFEST
    verdicts = complete_manifest(manifest, paths, workers, f"probe {split}")
    bad = {path: verdict for path, verdict in verdicts.items() if isinstance(verdict, str)}
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
    parser.add_argument("--root", required=True, type=Path, help="data set folder or list file (see lib.data.kinetics)")
    parser.add_argument("--split", default="train", help="folder of the split: train or val (default: train)")
    parser.add_argument("--manifest", type=Path, help=f"file to write (default: {MANIFEST} in the data set's folder)")
    parser.add_argument("--workers", type=int, default=cpu_cores(), help="videos probed at a time (default: CPU cores)")
    args = parser.parse_args()
    print(prepare(args.root, args.split, args.manifest, args.workers))


if __name__ == "__main__":
    sys.exit(main())
