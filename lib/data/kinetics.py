"""Which videos to train on: Kinetics-400 as it lies on disk, and which of its files can serve. No labels are needed.

Opening all of Kinetics takes long. `data_scripts/prepare_kinetics.py` does it once and leaves a manifest in the data
set's folder, which a scan looks its files up in.
"""

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.data.folders import read_text
from lib.data.video import PAPER_FPS, Clip, VideoInfo, probe
from lib.errors import UserError
from lib.runtime import atomic_path, cpu_cores, in_threads, progress

VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"}
MANIFEST = "video_manifest.csv"
MANIFEST_COLUMNS = ["path", "num_frames", "fps", "height", "width", "status"]
Verdict = VideoInfo | str  # what a file holds, or in one line why it cannot be read


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
            line += f", {len(self.skipped)} skipped (first: {path.name}: {reason})"
        return line + (f"; {self.looked_up} looked up in {MANIFEST}" if self.looked_up else "")


def list_kinetics(root: str | Path, split: str = "train") -> list[Path]:
    """The video files of a data set, in a fixed order.

    root: a folder in the official layout, `{split}/{class}/{id}_{start}_{end}.mp4`, where `annotations/{split}.csv`, if
        it is there, decides which videos are read (those that a copy lacks are listed here, and a scan skips them); or
        a folder with videos in it or in its folder `videos`; or a list file.
    """
    root = Path(root)
    if root.is_file():
        return _read_list(root)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give the one that holds {split}/, videos/ or the videos themselves")
    annotations = root / "annotations" / f"{split}.csv"
    if (root / split).is_dir() and annotations.is_file():
        return _read_annotations(annotations, root / split)
    folder = next((f for f in (root / split, root / "videos") if f.is_dir()), root)
    files = folder.glob("*") if folder == root else folder.rglob("*")
    videos = sorted(path for path in files if path.suffix.lower() in VIDEO_SUFFIXES)
    if not videos:
        there = ", ".join(sorted(p.name for p in folder.iterdir())[:5]) or "nothing"
        raise UserError(f"{folder}: no videos in it, only {there}; give a folder with {split}/CLASS/*.mp4 or videos/*")
    return videos


def split_videos(root: str | Path) -> tuple[list[Path], list[Path]]:
    """Videos to train on, and videos that no training may see: the `val` split or, without one, every fourth video."""
    videos = list_kinetics(root, "train")
    if (Path(root) / "val").is_dir():
        train, held_out = videos, list_kinetics(root, "val")
    else:
        train, held_out = [video for k, video in enumerate(videos) if k % 4 != 2], videos[2::4]
    if len(held_out) < 2:
        raise UserError(f"{root}: leaves {len(held_out)} videos to hold out; give 2 in val/, or 7 in all, or more")
    return train, held_out


def _read_list(path: Path) -> list[Path]:
    """Videos named by a CSV file with header `path` or `path,label`; paths are relative to that file's folder."""
    videos = [path.parent / row["path"] for row in read_csv(path, ["path"])]
    missing = [video for video in videos if not video.is_file()]
    if missing:
        raise UserError(f"{path}: {len(missing)} of {len(videos)} videos missing, first {missing[0]}; correct the list")
    if not videos:
        raise UserError(f"{path}: the list is empty; write one video path a line below the header")
    return videos


def _read_annotations(annotations: Path, folder: Path) -> list[Path]:
    """The official rows -> files. Copies differ in whether class folders keep spaces and brackets."""
    there = (video for video in folder.glob("*/*") if video.suffix.lower() in VIDEO_SUFFIXES)
    files = {(class_folder(video.parent.name), video.stem): video for video in there}
    videos = []
    for row in read_csv(annotations, ["label", "youtube_id", "time_start", "time_end"]):
        label = class_folder(row["label"])
        try:
            stem = f"{row['youtube_id']}_{int(row['time_start']):06d}_{int(row['time_end']):06d}"
        except ValueError:
            raise UserError(f"{annotations}: the row of {row['youtube_id']} has no whole seconds; correct it") from None
        videos.append(files.get((label, stem), folder / label / f"{stem}.mp4"))
    if not videos:
        raise UserError(f"{annotations}: names no video; fetch it again, or remove it to read all of {folder}")
    return videos


def class_folder(label: str) -> str:
    """A Kinetics label as its class folder is called: copies differ in spaces, quotes and brackets."""
    return label.translate({ord(" "): "_", ord("'"): None, ord("("): None, ord(")"): None, ord('"'): None})


def read_csv(path: Path, columns: list[str]) -> list[dict[str, str]]:
    """All rows of a CSV file that has these columns, and perhaps others."""
    reader = csv.DictReader(io.StringIO(read_text(path)))
    rows = list(reader)
    absent = set(columns) - set(reader.fieldnames or [])
    if absent or any(row[column] is None for row in rows for column in columns):
        raise UserError(f"{path}: the first line must name the columns {','.join(columns)} and each line fill them")
    return rows


def scan_videos(
    paths: Sequence[Path], min_seconds: float = 48 / PAPER_FPS, max_bad_fraction: float = 0.5, min_frames: int = 1
) -> Scan:
    """Look every file up in its data set's manifest, probe those that it does not know, and count what cannot serve.

    min_seconds: a clip serves when its last frame comes at least this long after its first: the largest gap.
    max_bad_fraction: more skipped files than this are an error.
    """
    # the manifest lies in the nearest folder above the videos that holds one
    places = [folder / MANIFEST for folder in paths[0].absolute().parents] if paths else []
    known = next((read_manifest(place) for place in places if place.is_file()), {})
    to_probe = [path for path in paths if path.resolve() not in known]
    known |= dict(progress(probe_all(to_probe, cpu_cores()), "probe videos", total=len(to_probe)))
    clips, skipped = [], {}
    for path in paths:
        info = known[path.resolve()]
        if isinstance(info, str):
            skipped[path] = info
        elif info.span_seconds < min_seconds:
            skipped[path] = f"too short: it spans {info.span_seconds:.2f} s, not {min_seconds:.2f} s"
        elif info.num_frames < min_frames:
            skipped[path] = f"too short: it has {info.num_frames} frames, not {min_frames}"
        else:
            clips.append(Clip(path, info))
    scan = Scan(clips, skipped, looked_up=len(paths) - len(to_probe))
    if not clips or len(skipped) > max_bad_fraction * len(paths):
        raise UserError(f"too few usable videos: {scan.report()}; at most {max_bad_fraction:.0%} may be skipped")
    return scan


def probe_all(paths: Sequence[Path], workers: int) -> Iterator[tuple[Path, Verdict]]:
    """Each file's absolute path and what it holds, in order; `workers` at a time."""

    def attempt(path: Path) -> tuple[Path, Verdict]:
        try:
            return path.resolve(), probe(path)
        except UserError as error:
            return path.resolve(), str(error).removeprefix(f"{path}: ")

    for start in range(0, len(paths), 1024):  # a job for each of 240,000 files at once would take 400 MB
        yield from in_threads(attempt, paths[start : start + 1024], workers)  # the decoder works outside Python's lock


def write_manifest(path: str | Path, known: dict[Path, Verdict]) -> None:
    """Write `probe_all`'s answers as CSV; `status` is `ok` or the reason.

    Paths are relative to the manifest's folder, so that both can move together.
    """
    folder = Path(path).resolve().parent
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(MANIFEST_COLUMNS)
        for video, info in known.items():
            readable = isinstance(info, VideoInfo)
            row = [info.num_frames, info.fps, info.height, info.width, "ok"] if readable else ["", "", "", "", info]
            writer.writerow([Path(os.path.relpath(video, folder)).as_posix(), *row])


def read_manifest(path: str | Path) -> dict[Path, Verdict]:
    """What `write_manifest` wrote, without the videos that are gone or have changed since the file was written."""
    path, known = Path(path), {}
    for row in read_csv(path, MANIFEST_COLUMNS):
        video = (path.parent / row["path"]).resolve()
        if not video.is_file() or video.stat().st_mtime_ns > path.stat().st_mtime_ns:
            continue
        if row["status"] != "ok":
            known[video] = row["status"]
            continue
        try:
            known[video] = VideoInfo(int(row["num_frames"]), float(row["fps"]), int(row["height"]), int(row["width"]))
        except ValueError:
            raise UserError(f"{path}: the row of {row['path']} lacks numbers; make the manifest anew") from None
    return known
