"""A whole toy world on disk: processes, the manifest, and the rule that a half-made world is never taken for
one.

The world is made in a temporary sibling folder; `manifest.json` is written last and the folder then moved.
Clips are shared out among processes one at a time; since each is seeded by its own number, the result does
not depend on how.
"""

import json
import multiprocessing
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from lib.errors import UserError
from lib.runtime import atomic_path, progress
from lib.toyworld.layouts import ClipPlan, plan, write_lists
from lib.toyworld.options import ToyWorldOptions
from lib.toyworld.writers import write_clip

GENERATOR_VERSION = 2


def ensure_toy_world(root: str | Path, options: ToyWorldOptions | None = None, workers: int | None = None) -> Path:
    """Make a toy world at `root` unless it is already there, and return `root`.

    `workers`: processes to use, by default one for each CPU core; the result does not depend on it. A world
    that holds more data sets than asked for is taken as it is. Raises UserError when `root` holds a world of
    other options or anything else.
    """
    root, options = Path(root), options or ToyWorldOptions()
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        _check(root, options)
        return root
    _make(root, options, workers or os.cpu_count() or 1)
    return root


def _make(root: Path, options: ToyWorldOptions, workers: int) -> None:
    with atomic_path(root) as temporary:
        temporary.mkdir()
        clips = plan(options)
        _write_all(temporary, clips, options, workers)
        for name in options.datasets:
            write_lists(temporary / name, name, [clip for clip in clips if clip.dataset == name])
        manifest = {
            "generator_version": GENERATOR_VERSION,
            "options": _plain(options),
            "files": _count(temporary, options.datasets),
        }
        (temporary / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def _plain(options: ToyWorldOptions) -> dict:
    return json.loads(json.dumps(asdict(options)))


def _count(root: Path, datasets: Iterable[str]) -> dict[str, int]:
    return {name: sum(path.is_file() for path in (root / name).rglob("*")) for name in datasets}


def _check(root: Path, options: ToyWorldOptions) -> None:
    """Raise UserError unless `root` is a finished, whole world of these options."""
    advice = f"choose another root or delete {root}"
    try:
        manifest = json.loads((root / "manifest.json").read_text())
        version, made, files = (manifest[key] for key in ("generator_version", "options", "files"))
        wanted = {"generator_version": GENERATOR_VERSION, **_plain(options)}
        found = {"generator_version": version, **made}
        asked = wanted.pop("datasets")
        different = [f"{k} is {found.get(k)}, wanted {v}" for k, v in wanted.items() if found.get(k) != v]
        missing = [name for name in asked if name not in files]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{root} is no finished toy world (no readable manifest.json): {advice}") from None
    if missing:
        different.append(f"no {', '.join(missing)}")
    if different:
        raise UserError(f"{root} holds a different toy world ({'; '.join(different)}): {advice}")
    for name, count in _count(root, asked).items():
        if count != files[name]:
            raise UserError(f"{root / name} holds {count} files, its manifest says {files[name]}: delete {root}")


def _write_all(root: Path, clips: list[ClipPlan], options: ToyWorldOptions, workers: int) -> None:
    """Write all clips with `workers` processes; this process is one of them."""
    # Forking spares the children the imports; where that is missing or unsafe (Windows, macOS), they start
    # afresh.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    turn = context.Value("i", 0)
    helpers = [
        context.Process(target=_work, args=(root, clips, options, turn, os.getpid()), daemon=True)
        for _ in range(min(workers, len(clips)) - 1)
    ]
    try:
        for helper in helpers:
            helper.start()
        with progress(None, "making the toy world", total=len(clips)) as bar:
            for index in _turns(turn, len(clips)):
                write_clip(root, clips[index], options)
                bar.update(turn.value - bar.n)
        for helper in helpers:
            helper.join()
            if helper.exitcode:
                raise RuntimeError(f"a process making the toy world ended with exit code {helper.exitcode}")
    finally:
        for helper in helpers:
            if helper.is_alive():
                helper.terminate()
                helper.join()


def _turns(turn, count: int) -> Iterator[int]:
    """Indices below `count` that no other process has taken."""
    while True:
        with turn.get_lock():
            index = turn.value
            turn.value = min(index + 1, count)
        if index >= count:
            return
        yield index


def _work(root: Path, clips: list[ClipPlan], options: ToyWorldOptions, turn, parent: int) -> None:
    """A helper process: write clips until none is left, or the process that started it is gone."""
    for index in _turns(turn, len(clips)):
        if os.getppid() != parent:
            return
        write_clip(root, clips[index], options)
