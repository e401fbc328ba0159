"""Frame pairs to train on, and others to look at that no training sees."""

from pathlib import Path

from lib.data.clips import FramePairs
from lib.data.kinetics import scan_videos, split_videos


def split_pairs(
    root: str | Path, arguments: dict, seed: int = 0, frame_cache: str | Path | None = None
) -> tuple[FramePairs, FramePairs, str]:
    """Pairs to train on, and pairs of up to 64 clips that no training sees, one of each; what was found, in words.

    arguments: of FramePairs, save seed and cache.
    """
    train, held_out = split_videos(root)
    scan, held = scan_videos(train), scan_videos(held_out[:64]).clips
    pairs = FramePairs(scan.clips, **arguments, seed=seed, frame_cache=frame_cache)
    unseen = FramePairs(held, **arguments | {"repeated_sampling": 1}, seed=seed + 1000)
    report = f"to train on: {scan.report()}; held out: {len(held_out)} videos, of which {len(held)} are looked at below"
    return pairs, unseen, report
