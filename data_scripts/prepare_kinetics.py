"""Probe every video of a Kinetics folder once, and leave what was found there, in `video_manifest.csv`.

    python data_scripts/prepare_kinetics.py --root data/kinetics400 --split train
    python data_scripts/prepare_kinetics.py --root data/kinetics400 --split train --store data/store/kinetics400

Notebooks and studies then look the videos up instead of opening each. With --store the clips that are readable and
long enough are also written there, small and with many keyframes: a folder of the same layout, from which random
frames are read many times as fast (notebook 01 says how many). Probing does not decode all of a video: what breaks in
the middle is found by --store or --decode, named, and no longer readable to the manifest. Interrupt it at any time:
the manifest is rewritten whole once a minute, a stored clip is whole or not there, and the next run goes on from
there. Run it again when videos were added or replaced: only those and the ones that could not be read are probed. A
cluster's jobs share the work by --shard i/n; when all are done, the same command without it writes the store's own
manifest.
"""

import argparse
import glob
import os
import platform
import re
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that `lib` is found from any folder

from lib.data.decoding import PAPER_FPS, Clip, VideoInfo  # noqa: E402
from lib.data.kinetics import list_kinetics  # noqa: E402
from lib.data.manifest import (  # noqa: E402
    MANIFEST,
    Verdict,
    complete_manifest,
    correct_manifest,
)
from lib.data.store import (  # noqa: E402
    StoreFormat,
    build_store,
    check_names,
    check_store,
    note_held_out,
    stored_path,
)
from lib.data.video import break_of  # noqa: E402
from lib.errors import UserError, cli, shard_of  # noqa: E402
from lib.runtime import atomic_path, cpu_cores, in_threads, progress  # noqa: E402

ALL = (1, 1)  # the shard that is the whole


def prepare(
    paths: Sequence[Path], whole: Path, split: str, shard: tuple[int, int], workers: int, decode: bool
) -> tuple[dict[Path, Verdict], Path]:
    """Complete the manifest of some videos of the data set: what each holds, and where that is written.

    A shard has a manifest of its own, which the run over all looks into. decode: whether all frames are looked at.
    """
    own = whole if shard == ALL else whole.with_name(f"{whole.stem}.{shard[0]}-of-{shard[1]}.csv")
    if not os.access(own.parent, os.W_OK):
        raise UserError(f"{own.parent}: cannot be written; give --manifest FILE, and SIAMMAE_MANIFEST=FILE later")
    others = sorted(whole.parent.glob(f"{whole.stem}.*-of-*.csv")) if shard == ALL else [whole]
    verdicts = complete_manifest(own, paths, workers, f"probe {split}", others)
    if decode:
        clips = [Clip(path, found) for path, found in verdicts.items() if isinstance(found, VideoInfo)]
        work = progress(in_threads(break_of, clips, workers), f"decode {split}", total=len(clips))
        broken = {clip.path: reason for clip, reason in zip(clips, work, strict=True) if reason}
        correct_manifest(own, broken)
        verdicts |= broken
    return verdicts, own


def count(verdicts: Mapping[Path, Verdict], manifest: Path) -> str:
    """A line about what can be read. UserError where nothing can."""
    bad = {path: verdict for path, verdict in verdicts.items() if isinstance(verdict, str)}
    line = f"{manifest}: {len(verdicts)} videos, {len(verdicts) - len(bad)} readable"
    if bad:
        path, reason = next(iter(bad.items()))
        line += f", {len(bad)} not (first {path}: {reason})"
    if bad and len(bad) == len(verdicts):
        raise UserError(f"{line}; check the folder")
    return line


def fill_store(
    verdicts: dict[Path, Verdict], root: Path, out: Path, kind: StoreFormat, min_seconds: float, workers: int
) -> tuple[list[Path], dict[Path, str], str]:
    """Store the clips that serve: where they lie, which broke, and what was kept and left out, and why, in lines."""
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
    if not (root / "val").is_dir():
        note_held_out(root, out)
    stored = [stored_path(path, root, out) for path in kept]
    sizes = [sum(path.stat().st_size for path in paths) for paths in (stored, kept)]
    times = f"{sizes[0] / max(1, sizes[1]):.2f} times what their files take"
    lines = [f"{out}: {len(kept)} clips kept, {sizes[0] / 1e6:.1f} MB, {times}"]
    alike = Counter()  # reasons tell numbers of frames, and differ in them
    for reason, number in (reasons + Counter(failed.values())).items():
        alike[reason if reason.startswith("shorter") else re.sub(r"[0-9]+", "N", reason)] += number
    lines += [f"left out: {number}, {reason}" for reason, number in alike.most_common()]
    lines += [f"broken: {path}" for path in failed]
    if (root / "val").is_dir() and not (out / "val").is_dir():
        lines.append("not stored yet: its val split; without, every fourth clip of train is held out (--split val)")
    return stored, failed, "\n".join(lines)


def check(stored: Sequence[Path], out: Path, workers: int) -> str:
    """Write the store's manifest, and delete what cannot be read there: a line about it, "" for nothing."""
    found = complete_manifest(out / MANIFEST, stored, workers, "probe the store")
    bad = [path for path, verdict in found.items() if isinstance(verdict, str)]
    for path in bad:
        path.unlink()
    for left in out.rglob(f".*@{glob.escape(platform.node())}.partial.mp4"):  # of this machine's that were killed
        process = left.name.rpartition("@")[0].rpartition(".")[2]
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            left.unlink()
    return f"{len(bad)} stored clips were damaged and are deleted; start again for these" if bad else ""


@cli
def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--root", required=True, type=Path, help="data set folder or list file (see lib.data.kinetics)")
    add("--split", default="train", choices=("train", "val"), help="folder of the split (default: train)")
    add("--manifest", type=Path, help=f"file to write, found by SIAMMAE_MANIFEST=FILE (default: {MANIFEST} there)")
    add("--decode", action="store_true", help="look at every frame: takes long, finds what breaks in the middle")
    add("--workers", type=int, default=cpu_cores(), help="videos at a time (default: CPU cores)")
    add("--store", type=Path, help="folder for clips that are quick to read; the data set must be a folder")
    add("--gop", type=int, default=4, help="a keyframe each so many frames; larger: less disk, slower (default: 4)")
    add("--short-side", type=int, default=256, help="pixels of the stored pictures' short side (default: 256)")
    add("--crf", type=int, default=23, help="x264's quality, lower is better and larger (default: 23)")
    add("--min-seconds", type=float, default=48 / PAPER_FPS, help="shorter clips are not stored (default: 1.6)")
    add("--shard", type=shard_of, default=ALL, metavar="i/n", help="do the i-th of n parts (default: all)")
    args = parser.parse_args()
    if not args.min_seconds >= 0:  # nan, too
        raise UserError(f"--min-seconds {args.min_seconds}: give 0 or more")
    if args.split == "val" and args.root.is_dir() and not (args.root / "val").is_dir():
        raise UserError(f"{args.root / 'val'}: no such folder; there is one split alone, leave --split out")
    paths = list_kinetics(args.root, args.split)
    if args.store:  # before anything takes long
        if not args.root.is_dir():
            raise UserError(f"{args.root}: a list; a store mirrors a folder, so give that as --root")
        if args.store.resolve().is_relative_to(args.root.resolve()):
            raise UserError(f"{args.store}: lies in {args.root}, whose videos are read; give another folder")
        kind = StoreFormat(args.short_side, args.gop, args.crf)
        check_store(args.store, kind)
        check_names(paths, args.root, args.store)
    paths = paths[args.shard[0] - 1 :: args.shard[1]]
    whole = args.manifest or (args.root if args.root.is_dir() else args.root.parent) / MANIFEST
    verdicts, manifest = prepare(paths, whole, args.split, args.shard, args.workers, args.decode)
    print(count(verdicts, manifest))
    if args.store:
        stored, broken, lines = fill_store(verdicts, args.root, args.store, kind, args.min_seconds, args.workers)
        correct_manifest(manifest, broken)
        print(lines)
        if args.shard == ALL and (line := check(stored, args.store, args.workers)):
            print(line)
            raise SystemExit(1)


if __name__ == "__main__":
    sys.exit(main())
