"""Which videos to train on: Kinetics-400 as it lies on disk, and which of its files can serve.

Layouts read: the official `{split}/{class}/{id}_{start}_{end}.mp4` with `annotations/{split}.csv`; a folder
`videos`; a flat folder; a list file. Nothing here needs labels.
"""

import csv
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lib.data.video import VideoInfo, probe
from lib.errors import UserError
from lib.runtime import atomic_path, progress

PAPER_FPS = 30  # the frame rate in which SiamMAE tells its gaps
VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"}
MANIFEST_COLUMNS = ["path", "num_frames", "fps", "height", "width", "status"]


@dataclass(frozen=True)
class Clip:
    """A video file that was found readable."""

    path: Path
    info: VideoInfo


@dataclass(frozen=True)
class Scan:
    """The clips that can be used, and for each file that cannot the reason in one line."""

    clips: list[Clip]
    skipped: dict[Path, str]

    def report(self) -> str:
        """One line: how many clips, how many were skipped, and the first of those with its reason."""
        line = f"{len(self.clips)} clips"
        if self.skipped:
            path, reason = next(iter(self.skipped.items()))
            line += f", {len(self.skipped)} skipped (first: {path.name}: {reason})"
        return line


def list_kinetics(root: str | Path, split: str = "train") -> list[Path]:
    """The video files of a data set, in a fixed order.

    root: a folder in the official layout, where `annotations/{split}.csv`, if it is there, decides which
        videos are read (copies of Kinetics always lack some of its rows: those are listed here, and the scan
        skips and counts them); or a folder with videos in it or in its folder `videos`; or a list file
        (`read_list`).

    Raises UserError when there is no such folder or file, or no video in it.
    """
    root = Path(root)
    if root.is_file():
        return read_list(root)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give the one that holds {split}/, videos/ or the videos themselves")
    annotations = root / "annotations" / f"{split}.csv"
    if (root / split).is_dir() and annotations.is_file():
        return _read_annotations(annotations, root / split)
    folder = next((f for f in (root / split, root / "videos") if f.is_dir()), root)
    found = folder.glob("*") if folder == root else folder.rglob("*")
    videos = sorted(p for p in found if p.suffix.lower() in VIDEO_SUFFIXES)
    if not videos:
        there = ", ".join(sorted(p.name for p in folder.iterdir())[:5]) or "nothing"
        raise UserError(f"{folder}: no videos in it, only {there}; give a folder with {split}/CLASS/*.mp4 or videos/*")
    return videos


def split_videos(root: str | Path) -> tuple[list[Path], list[Path]]:
    """Videos to train on, and videos that no training may see: the `val` split or, without one, every fourth video.

    Arguments and errors as `list_kinetics`; UserError, too, when fewer than 2 videos are held out.
    """
    videos = list_kinetics(root, "train")
    if (Path(root) / "val").is_dir():
        train, held = videos, list_kinetics(root, "val")
    else:
        train, held = [video for k, video in enumerate(videos) if k % 4 != 2], videos[2::4]
    if len(held) < 2:
        raise UserError(f"{root}: leaves {len(held)} videos to hold out; give 2 or more in val/, or 7 or more in all")
    return train, held


def read_list(path: str | Path) -> list[Path]:
    """Videos named by a CSV file with header `path` or `path,label`; paths are relative to that file's
    folder.

    Raises UserError when the header is another or a file is missing (names the first, counts all).
    """
    path = Path(path)
    videos = [path.parent / row["path"] for row in _read_csv(path, ["path"])]
    missing = [video for video in videos if not video.is_file()]
    if missing:
        raise UserError(f"{path}: {len(missing)} of {len(videos)} videos missing, first {missing[0]}; correct the list")
    if not videos:
        raise UserError(f"{path}: the list is empty; write one video path a line below the header")
    return videos


def _read_annotations(annotations: Path, folder: Path) -> list[Path]:
    """The official rows -> files. Copies differ in whether class folders keep spaces and brackets."""
    files = {
        (_plain_label(video.parent.name), video.stem): video
        for video in folder.glob("*/*")
        if video.suffix.lower() in VIDEO_SUFFIXES
    }
    videos = []
    for row in _read_csv(annotations, ["label", "youtube_id", "time_start", "time_end"]):
        label = _plain_label(row["label"])
        try:
            stem = f"{row['youtube_id']}_{int(row['time_start']):06d}_{int(row['time_end']):06d}"
        except ValueError:
            raise UserError(f"{annotations}: the row of {row['youtube_id']} has no whole seconds; correct it") from None
        videos.append(files.get((label, stem), folder / label / f"{stem}.mp4"))
    if not videos:
        raise UserError(f"{annotations}: names no video; fetch it again, or remove it to read all of {folder}")
    return videos


def _plain_label(label: str) -> str:
    return label.translate({ord(" "): "_", ord("'"): None, ord("("): None, ord(")"): None, ord('"'): None})


def _read_csv(path: Path, columns: list[str]) -> list[dict[str, str]]:
    """All rows of a CSV file that has these columns, and perhaps others."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error):
        raise UserError(f"{path}: is no CSV text; save it as CSV in UTF-8") from None
    absent = set(columns) - set(reader.fieldnames or [])
    if absent or any(row[column] is None for row in rows for column in columns):
        raise UserError(f"{path}: the first line must name the columns {','.join(columns)} and each line fill them")
    return rows


def scan_videos(
    paths: Sequence[Path],
    min_seconds: float = 48 / PAPER_FPS,
    max_bad_fraction: float = 0.5,
    manifest: str | Path | None = None,
    workers: int = 1,
) -> Scan:
    """Probe every file, or look it up in a manifest; skip and count what cannot serve.

    min_seconds: a clip serves when its last frame comes at least this long after its first: the largest gap.
    max_bad_fraction: more skipped files than this share is a UserError that counts them and names the first.
    manifest: a file by `write_manifest`; then no video is opened. It must know all of `paths`, or UserError.
    """
    if manifest is None:
        known = dict(progress(probe_all(paths, workers), "probe videos", total=len(paths)))
    else:
        known = read_manifest(manifest)
    absent = [path for path in paths if path.resolve() not in known]
    if absent:
        raise UserError(
            f"{manifest}: lacks {len(absent)} of {len(paths)} videos, first {absent[0]};"
            " complete it with data_scripts/prepare_kinetics.py"
        )
    clips, skipped = [], {}
    for path in paths:
        info = known[path.resolve()]
        if isinstance(info, str):
            skipped[path] = info
        elif info.span_seconds < min_seconds:
            skipped[path] = f"too short: it spans {info.span_seconds:.2f} s, not {min_seconds:.2f} s"
        else:
            clips.append(Clip(path, info))
    scan = Scan(clips, skipped)
    if not clips or len(skipped) > max_bad_fraction * len(paths):
        raise UserError(f"too few usable videos: {scan.report()}; at most {max_bad_fraction:.0%} may be skipped")
    return scan


def probe_all(paths: Sequence[Path], workers: int = 1) -> Iterator[tuple[Path, VideoInfo | str]]:
    """Yield, in order, each file's absolute path and its info, or in one line why it cannot be read."""

    def attempt(path: Path) -> VideoInfo | str:
        try:
            return probe(path)
        except UserError as error:
            return str(error).removeprefix(f"{path}: ")

    with ThreadPoolExecutor(workers) as pool:  # threads, because the decoder works outside Python's lock
        for start in range(0, len(paths), 64):  # few at a time, so that an interruption takes effect at once
            chunk = paths[start : start + 64]
            for path, info in zip(chunk, pool.map(attempt, chunk), strict=True):
                yield path.resolve(), info


def write_manifest(path: str | Path, known: dict[Path, VideoInfo | str]) -> None:
    """Write `probe_all`'s answers as CSV with MANIFEST_COLUMNS, whole or not at all.

    Paths are relative to the manifest's folder, so that both can move together; `status` is `ok` or the
    reason.
    """
    folder = Path(path).resolve().parent
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(MANIFEST_COLUMNS)
        for video, info in known.items():
            name = Path(os.path.relpath(video, folder)).as_posix()
            if isinstance(info, str):
                writer.writerow([name, "", "", "", "", info])
            else:
                writer.writerow([name, info.num_frames, info.fps, info.height, info.width, "ok"])


def read_manifest(path: str | Path) -> dict[Path, VideoInfo | str]:
    """The inverse of `write_manifest`. Raises UserError when the file is missing or is no manifest."""
    path = Path(path)
    known = {}
    for row in _read_csv(path, MANIFEST_COLUMNS):
        video = (path.parent / row["path"]).resolve()
        if row["status"] != "ok":
            known[video] = row["status"]
            continue
        num_frames, fps, height, width = (row[name] for name in MANIFEST_COLUMNS[1:5])
        try:
            known[video] = VideoInfo(int(num_frames), float(fps), int(height), int(width))
        except ValueError:
            raise UserError(
                f"{path}: the row of {row['path']} lacks numbers; delete the manifest, make it anew"
            ) from None
    return known
