"""Probe every video of a Kinetics folder once, and leave what was found there, in `video_manifest.csv`.

    python data_scripts/prepare_kinetics.py --root data/kinetics400 --split train
    python data_scripts/prepare_kinetics.py --root data/kinetics400 --split train --store data/store/kinetics400

Notebooks and studies then look the videos up instead of opening each. With --store the clips that are readable and long
enough are also written there, small and with many keyframes: a folder of the same layout, from which random frames are
read tens of times as fast. Interrupt it at any time: the manifest is rewritten whole once a minute, a stored clip is
whole or not there, and the next run goes on from there. Run it again when videos were added or replaced: only those and
the ones that could not be read are probed. A cluster's jobs share the work by --shard i/n; when all are done, the same
command without it writes the store's own manifest.
"""

import argparse
import re
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that `lib` is found from any folder

from lib.data.decoding import PAPER_FPS, Clip, VideoInfo  # noqa: E402
from lib.data.kinetics import list_kinetics  # noqa: E402
from lib.data.manifest import MANIFEST, Verdict, complete_manifest  # noqa: E402
from lib.data.store import StoreFormat, build_store, check_names, check_store, stored_path  # noqa: E402
from lib.errors import UserError, cli, shard_of  # noqa: E402
from lib.runtime import atomic_path, cpu_cores  # noqa: E402

ALL = (1, 1)  # the shard that is the whole


def prepare(
    paths: Sequence[Path], root: Path, split: str, manifest: Path | None, shard: tuple[int, int], workers: int
) -> tuple[dict[Path, Verdict], str]:
    """Complete the manifest of some videos of the data set: what each holds, and a line that counts it.

    A shard has a manifest of its own, which the run over all looks into.
    """
    whole = manifest or (root if root.is_dir() else root.parent) / MANIFEST
    own = whole if shard == ALL else whole.with_name(f"{whole.stem}.{shard[0]}-of-{shard[1]}.csv")
    others = sorted(whole.parent.glob(f"{whole.stem}.*-of-*.csv")) if shard == ALL else [whole]
    verdicts = complete_manifest(own, paths, workers, f"probe {split}", others)
    bad = {path: verdict for path, verdict in verdicts.items() if isinstance(verdict, str)}
    line = f"{own}: {len(paths)} videos, {len(paths) - len(bad)} readable"
    if bad:
        path, reason = next(iter(bad.items()))
        line += f", {len(bad)} not (first {path}: {reason})"
    if len(bad) == len(paths):
        raise UserError(f"{line}; check the folder")
    return verdicts, line


def fill_store(
    verdicts: dict[Path, Verdict], root: Path, out: Path, kind: StoreFormat, min_seconds: float, workers: int
) -> tuple[list[Path], str]:
    """Store the clips that serve: where they lie, and what was kept and what was left out, and why, in lines."""
    serve, reasons = [], Counter()
    for path, found in verdicts.items():
        if isinstance(found, VideoInfo) and found.reaches(min_seconds):
            serve.append(Clip(path, found))
        else:
            reasons[found if isinstance(found, str) else f"shorter than {min_seconds:g} s"] += 1
    failed = build_store(serve, root, out, kind, workers)
    kept = [clip.path for clip in serve if clip.path not in failed]
    for table in (root / "annotations").glob("*.csv"):
        with atomic_path(out / "annotations" / table.name) as temporary:
            shutil.copyfile(table, temporary)
    stored = [stored_path(path, root, out) for path in kept]
    sizes = [sum(path.stat().st_size for path in paths) for paths in (stored, kept)]
    times = f"{sizes[0] / max(1, sizes[1]):.2f} times what their files take"
    lines = [f"{out}: {len(kept)} clips kept, {sizes[0] / 1e6:.1f} MB, {times}"]
    alike = Counter()  # reasons tell numbers of frames, and differ in them
    for reason, number in (reasons + Counter(failed.values())).items():
        alike[reason if reason.startswith("shorter") else re.sub(r"[0-9]+", "N", reason)] += number
    lines += [f"left out: {number}, {reason}" for reason, number in alike.most_common()]
    return stored, "\n".join(lines)


def check(stored: Sequence[Path], out: Path, workers: int) -> str:
    """Write the store's manifest, and delete what cannot be read there: a line about it, "" for nothing."""
    found = complete_manifest(out / MANIFEST, stored, workers, "probe the store")
    bad = [path for path, verdict in found.items() if isinstance(verdict, str)]
    for path in bad:
        path.unlink()
    for left in out.rglob(".*.partial.mp4"):  # of processes that were killed
        process = left.name.split(".")[-3]
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            left.unlink()
    return f"{len(bad)} stored clips were damaged and are deleted; start again for these" if bad else ""


@cli
def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--root", required=True, type=Path, help="data set folder or list file (see lib.data.kinetics)")
    add("--split", default="train", help="folder of the split: train or val (default: train)")
    add("--manifest", type=Path, help=f"file to write (default: {MANIFEST} in the data set's folder)")
    add("--workers", type=int, default=cpu_cores(), help="videos at a time (default: CPU cores)")
    add("--store", type=Path, help="folder for clips that are quick to read; the data set must be a folder")
    add("--gop", type=int, default=4, help="a keyframe each so many frames; larger: less disk, slower (default: 4)")
    add("--short-side", type=int, default=256, help="pixels of the stored pictures' short side (default: 256)")
    add("--crf", type=int, default=23, help="x264's quality, lower is better and larger (default: 23)")
    add("--min-seconds", type=float, default=48 / PAPER_FPS, help="shorter clips are not stored (default: 1.6)")
    add("--shard", type=shard_of, default=ALL, metavar="i/n", help="do the i-th of n parts (default: all)")
    args = parser.parse_args()
    paths = list_kinetics(args.root, args.split)
    if args.store:  # before anything takes long
        if not args.root.is_dir():
            raise UserError(f"{args.root}: a list; a store mirrors a folder, so give that as --root")
        kind = StoreFormat(args.short_side, args.gop, args.crf)
        check_store(args.store, kind)
        check_names(paths, args.root, args.store)
    paths = paths[args.shard[0] - 1 :: args.shard[1]]
    verdicts, line = prepare(paths, args.root, args.split, args.manifest, args.shard, args.workers)
    print(line)
    if args.store:
        stored, lines = fill_store(verdicts, args.root, args.store, kind, args.min_seconds, args.workers)
        print(lines)
        if args.shard == ALL and (line := check(stored, args.store, args.workers)):
            print(line)
            raise SystemExit(1)


if __name__ == "__main__":
    sys.exit(main())
