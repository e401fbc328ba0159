"""Which videos to train on: Kinetics-400 as it lies on disk, and which of its files can serve. No labels are needed.

Opening all of Kinetics takes long. `data_scripts/prepare_kinetics.py` does it once and leaves a manifest in the data
set's folder, which a scan looks its files up in.
"""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.data.folders import children, read_csv, stem_of, walk
from lib.data.manifest import MANIFEST, probe_all, read_manifest
from lib.data.video import PAPER_FPS, Clip, VideoInfo
from lib.errors import UserError, one_line
from lib.runtime import cpu_cores, progress

VIDEO_SUFFIXES = {
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".flv", ".3gp", ".ogv",
}  # fmt: skip
SECONDS = ("time_start", "time_end")
HELD_OUT = "held_out.csv"


@dataclass(frozen=True)
class Scan:
    """The clips that can be used, and for each file that cannot the reason in one line."""

    clips: list[Clip]
    skipped: dict[Path, str]
    looked_up: int  # files that were not opened: the manifest knew them

    def report(self) -> str:
        """One line: how many clips, how many were skipped, the first of those with its reason, how many looked up."""
        line = f"{len(self.clips)} clips"
        if self.skipped:
            path, reason = next(iter(self.skipped.items()))
            line += one_line(f", {len(self.skipped)} skipped (first: {path.name}: {reason})")
        return line + (f"; {self.looked_up} looked up in {MANIFEST}" if self.looked_up else "")


def list_kinetics(root: str | Path, split: str = "train") -> list[Path]:
    """The video files of a data set, in a fixed order.

    root: a folder in the official layout, `{split}/{class}/{id}_{start}_{end}.mp4`, where `annotations/{split}.csv`, if
        it is there, decides which videos are read (those that a copy lacks are listed here, and a scan skips them),
        or `annotations/{split}_subset.csv`, where only a part was fetched; or a folder with videos in it or in its
        folder `videos`; or a list file. What a folder holds is read with the folders in it, linked ones too.
    """
    root = Path(root)
    if root.is_file():
        return read_list(root)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give the one that holds {split}/, videos/ or the videos themselves")
    for annotations in (subset_table(root, split), root / "annotations" / f"{split}.csv"):
        if (root / split).is_dir() and annotations.is_file():
            return _read_annotations(annotations, root / split)
    folder = next((f for f in (root / split, root / "videos") if f.is_dir()), root)
    files = [path for path in children(root) if not path.is_dir()] if folder == root else walk(folder)
    videos = sorted(path for path in files if path.suffix.lower() in VIDEO_SUFFIXES)
    if not videos:
        there = ", ".join(path.name for path in children(folder)[:5]) or "nothing"
        raise UserError(f"{folder}: no videos in it, only {there}; give a folder with {split}/CLASS/*.mp4 or videos/*")
    return videos


def subset_table(root: Path, split: str) -> Path:
    """The rows of the videos that were fetched, where they are a part."""
    return root / "annotations" / f"{split}_subset.csv"


def split_videos(root: str | Path) -> tuple[list[Path], list[Path]]:
    """Videos to train on, and videos that no training may see: the `val` split or, without one, every fourth video.

    A store, which lacks what did not serve, names those of its source in HELD_OUT.
    """
    videos, named = list_kinetics(root, "train"), Path(root) / HELD_OUT
    if (Path(root) / "val").is_dir():
        train, held_out = videos, list_kinetics(root, "val")
    elif named.is_file():
        names = {Path(root) / row["path"] for row in read_csv(named, ["path"])}
        train, held_out = ([video for video in videos if (video in names) == held] for held in (False, True))
    else:
        train, held_out = [video for k, video in enumerate(videos) if k % 4 != 2], videos[2::4]
    if len(held_out) < 2:
        raise UserError(f"{root}: leaves {len(held_out)} videos to hold out; give 2 in val/, or 7 in all, or more")
    return train, held_out


def read_list(path: Path) -> list[Path]:
    """Videos named by a CSV file with header `path` or `path,label`; paths are relative to that file's folder."""
    videos = [path.parent / row["path"] for row in read_csv(path, ["path"])]
    missing = [video for video in videos if not video.is_file()]
    if missing:
        raise UserError(f"{path}: {len(missing)} of {len(videos)} videos missing, first {missing[0]}; correct the list")
    if not videos:
        raise UserError(f"{path}: the list is empty; write one video path a line below the header")
    return videos


def _read_annotations(annotations: Path, folder: Path) -> list[Path]:
    """The official rows -> files.

    Copies differ in whether they have class folders at all, and whether these keep spaces and brackets; in the digits
    of the seconds; and in suffixes, of which a download may have left two.
    """
    in_class, anywhere = {}, {}
    for path in walk(folder):
        if path.suffix.lower() in VIDEO_SUFFIXES:
            key = _clip_key(stem_of(path, VIDEO_SUFFIXES))
            in_class[class_folder(path.parent.name), key] = path
            if path.parent == folder:
                anywhere[key] = path
    videos = []
    for row in read_csv(annotations, ["label", "youtube_id", "time_start", "time_end"]):
        label, (start, end) = class_folder(row["label"]), (_seconds(annotations, row, name) for name in SECONDS)
        key, name = (row["youtube_id"], start, end), f"{row['youtube_id']}_{start:06d}_{end:06d}.mp4"
        videos.append(in_class.get((label, key)) or anywhere.get(key) or folder / label / name)
    if not videos:
        raise UserError(f"{annotations}: names no video; fetch it again, or remove it to read all of {folder}")
    return videos


def _clip_key(stem: str) -> tuple[str, int, int] | None:
    """Of a file's stem `{id}_{start}_{end}` the three parts."""
    match = re.fullmatch(r"(.+)_([0-9]+)_([0-9]+)", stem)
    return (match[1], int(match[2]), int(match[3])) if match else None


def _seconds(annotations: Path, row: dict[str, str], name: str) -> int:
    try:
        seconds = float(row[name])  # some copies have 1.0 for 1
    except ValueError:
        seconds = math.nan
    if not seconds.is_integer():
        raise UserError(f"{annotations}: the row of {row['youtube_id']} has no whole seconds as {name}; correct it")
    return int(seconds)


def class_folder(label: str) -> str:
    """A Kinetics label as its class folder is called: copies differ in spaces, quotes and brackets."""
    return label.translate({ord(" "): "_", ord("'"): None, ord("("): None, ord(")"): None, ord('"'): None})


def scan_videos(
    paths: Sequence[Path], min_seconds: float = 48 / PAPER_FPS, max_bad_fraction: float = 0.5, min_frames: int = 1,
    min_fps: float = 0,
) -> Scan:  # fmt: skip
    """Look every file up in its data set's manifest, probe those that it does not know, and count what cannot serve.

    That is in the nearest folder above the videos; where none can be written, SIAMMAE_MANIFEST (environment) names it.
    min_seconds: a clip serves when its last frame comes at least this long after its first: the largest gap.
    min_frames, min_fps: the same for its number of frames, and for how many come a second.
    max_bad_fraction: more skipped files than this are an error.
    """
    asked = {path: path.resolve() for path in paths}
    places = [folder / MANIFEST for folder in paths[0].absolute().parents] if paths else []
    named, known = os.environ.get("SIAMMAE_MANIFEST"), {}
    for table in (next(filter(Path.is_file, places), None), named and Path(named)):
        known |= read_manifest(table, set(asked.values())) if table else {}
    to_probe = [path for path, file in asked.items() if file not in known]
    probed = progress(probe_all(to_probe, cpu_cores()), "probe videos", total=len(to_probe))
    known |= {path: entry.verdict for path, entry in probed}
    clips, skipped = [], {}
    for path in paths:
        info = known[asked[path]]
        if isinstance(info, str):
            skipped[path] = info
        elif info.span_seconds < min_seconds:
            skipped[path] = f"too short: it spans {info.span_seconds:.2f} s, not {min_seconds:.2f} s"
        elif info.num_frames < min_frames:
            skipped[path] = f"too short: it has {info.num_frames} frames, not {min_frames}"
        elif too_slow(info, min_fps):
            skipped[path] = f"too slow: it has {info.fps:g} frames a second, not {min_fps:g}"
        elif not info.reaches(min_seconds):
            skipped[path] = f"its frames come too unsteadily: none is near {min_seconds:.2f} s after another"
        else:
            clips.append(Clip(path, info))
    scan = Scan(clips, skipped, looked_up=len(asked) - len(to_probe))
    if not clips or len(skipped) > max_bad_fraction * len(paths):
        raise UserError(f"too few usable videos: {scan.report()}; at most {max_bad_fraction:.0%} may be skipped")
    return scan


def too_slow(info: VideoInfo, fps: float) -> bool:
    """Whether a video has too few frames a second to be read at `fps`."""
    return info.fps < 0.99 * fps
