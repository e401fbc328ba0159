"""A whole toy world on disk: processes, the manifest, and the rule that a half-made world is never taken for one.

The world is made in a temporary sibling folder; `manifest.json` is written last and the folder then moved. Each clip is
seeded by its own number, so the result does not depend on how processes share them.
"""

import json
import multiprocessing
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

from lib.data.kinetics import MANIFEST
from lib.errors import UserError
from lib.runtime import atomic_path, cpu_cores, progress, write_json
from lib.toyworld.layouts import plan, write_lists
from lib.toyworld.options import ToyWorldOptions
from lib.toyworld.writers import write_clip

GENERATOR_VERSION = 2


def ensure_toy_world(root: str | Path, options: ToyWorldOptions | None = None, workers: int | None = None) -> Path:
    """Make a toy world at `root` unless it is already there, and return `root`.

    `workers`: processes, None: one for each CPU core. A world that holds more data sets than asked for is taken as it
    is; those that a world of equal options lacks are added to it.
    """
    root, options, workers = Path(root), options or ToyWorldOptions(), workers or cpu_cores()
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        _make(root, options, workers)
    elif missing := _check(root, options):
        _add(root, replace(options, datasets=missing), workers)
    return root


def toy_world_name(root: str | Path) -> str:
    """What stands beside a number from the toy world at `root`; "" where there is none: then data are real."""
    if not (Path(root) / "manifest.json").is_file():
        return ""
    name = Path(root).resolve().name
    return "toy world" if name == "toy" else f"toy world {name!r}"


def _make(root: Path, options: ToyWorldOptions, workers: int) -> None:
    with atomic_path(root) as temporary:
        temporary.mkdir()
        _write_datasets(temporary, options, workers)
        files = _count(temporary, options.datasets)
        manifest = {"generator_version": GENERATOR_VERSION, "options": _plain(options), "files": files}
        write_json(temporary / "manifest.json", manifest)


def _add(root: Path, options: ToyWorldOptions, workers: int) -> None:
    """Add the data sets of `options` to a finished world: made beside it, moved in whole, named in the manifest."""
    for name in options.datasets:
        if (root / name).exists():
            raise UserError(f"{root / name} is there, but not in the manifest: delete it, then it is made anew")
    with TemporaryDirectory(dir=root.parent, prefix=f".{root.name}.", suffix=".partial") as staging:
        _write_datasets(Path(staging), options, workers)
        for name in options.datasets:
            os.rename(Path(staging, name), root / name)
            manifest = json.loads((root / "manifest.json").read_text())
            datasets = [*manifest["options"]["datasets"], name]
            manifest["options"] = {**_plain(options), **manifest["options"], "datasets": datasets}
            manifest["files"] |= _count(root, [name])
            write_json(root / "manifest.json", manifest)


def _plain(options: ToyWorldOptions) -> dict:
    return json.loads(json.dumps(asdict(options)))


def _count(root: Path, datasets: Iterable[str]) -> dict[str, int]:
    """How many files each data set has, without the manifest that data_scripts/prepare_kinetics.py may have added."""
    files = {name: (path for path in (root / name).rglob("*") if path.is_file()) for name in datasets}
    return {name: sum(path.name != MANIFEST for path in paths) for name, paths in files.items()}


def _check(root: Path, options: ToyWorldOptions) -> list[str]:
    """The data sets that `root`, a finished, whole world of these options, lacks."""
    advice = f"choose another root or delete {root}"
    try:
        manifest = json.loads((root / "manifest.json").read_text())
        version, made, files = (manifest[key] for key in ("generator_version", "options", "files"))
        wanted = {"generator_version": GENERATOR_VERSION, **_plain(options)}
        there = {"generator_version": version, **made}
        datasets = wanted.pop("datasets")
        # An option that the manifest does not know did not exist then, so what is there does not depend on it.
        different = [f"{k} is {there[k]}, wanted {v}" for k, v in wanted.items() if k in there and there[k] != v]
        missing = [name for name in datasets if name not in files]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{root} is no finished toy world (no readable manifest.json): {advice}") from None
    if different:
        raise UserError(f"{root} holds a different toy world ({'; '.join(different)}): {advice}")
    for name, count in _count(root, [name for name in datasets if name in files]).items():
        if count != files[name]:
            raise UserError(f"{root / name} holds {count} files, its manifest says {files[name]}: delete {root}")
    return missing


def _write_datasets(root: Path, options: ToyWorldOptions, workers: int) -> None:
    """Write the data sets of `options`, with `workers` processes if they are more than one."""
    clips, write = plan(options), partial(write_clip, root, options=options)
    if workers == 1:
        for clip in progress(clips, "making the toy world"):
            write(clip)
    else:
        # Forking spares the processes the imports; where it is missing or unsafe (Windows, macOS), they start afresh.
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        pool = ProcessPoolExecutor(min(workers, len(clips)), context, _end_with_parent)
        try:
            for _ in progress(pool.map(write, clips), "making the toy world", total=len(clips)):
                pass
        finally:
            pool.shutdown(cancel_futures=True)
    for name in options.datasets:
        write_lists(root / name, name, [clip for clip in clips if clip.dataset == name])


def _end_with_parent() -> None:
    """Let this process end when the one that started it was killed: a pool's processes would wait for it for ever."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()
