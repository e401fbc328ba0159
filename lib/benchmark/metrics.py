"""How fast masks are scored: `lib.evaluation.metrics.score_sequence` against the usual loop over frames and objects.

That makes a boundary map of each mask, dilates it over the whole picture by a disc, and counts (Perazzi et al. 2016).
Then `lib.score.davis.score_davis`, files and all, with one worker and with two. The prediction is the truth, a frame
late; seconds of the two loops are per frame and object. Shapes: `T` frames, `H W` pixels, `K` objects.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation

from lib.benchmark.timing import best_times, check_counts, conditions, peak_memory_mb
from lib.data.davis import DavisDataset
from lib.data.images import write_mask
from lib.evaluation.metrics import SCORED, boundary_map, boundary_tolerance, score_sequence
from lib.score.davis import score_davis


def reference_scores(truth: np.ndarray, predicted: np.ndarray, num_objects: int) -> tuple[np.ndarray, np.ndarray]:
    """J and F, two (K, T) float64 arrays, of (T, H, W) ids, by the usual loop over objects and frames."""
    radius = boundary_tolerance(*truth.shape[1:])
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = x**2 + y**2 <= radius**2
    pairs, objects = list(zip(truth, predicted, strict=True)), range(1, num_objects + 1)
    scores = np.array([[_reference(t == k, p == k, disc) for t, p in pairs] for k in objects])
    return scores[..., 0], scores[..., 1]


def _reference(truth: np.ndarray, predicted: np.ndarray, disc: np.ndarray) -> tuple[float, float]:
    union = np.sum(truth | predicted)
    region = np.sum(truth & predicted) / union if union else 1.0
    edges = [boundary_map(mask) for mask in (truth, predicted)]
    total = [np.sum(edge) for edge in edges]
    if not all(total):
        return region, float(not any(total))
    matched = [np.sum(a & binary_dilation(b, disc)) for a, b in (edges, edges[::-1])]
    recall, precision = matched[0] / total[0], matched[1] / total[1]
    return region, 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def moving_blobs(rng: np.random.Generator, frames: int, num_objects: int, size: tuple[int, int]) -> np.ndarray:
    """Masks (T, H, W) uint8 of round shapes with wavy outlines that drift, turn and cover each other. Frame 0 shows
    all, as a truth must: they start side by side, too small to hide a neighbour's centre.
    """
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    masks = np.zeros((frames, *size), np.uint8)
    radii = rng.uniform(0.3, 1, num_objects) * min(0.2 * size[0], 0.8 * size[1] / num_objects)
    centres = np.stack([rng.uniform(0.3, 0.7, num_objects), (np.arange(num_objects) + 0.5) / num_objects], 1) * size
    steps, waves = rng.uniform(-0.015, 0.015, (num_objects, 2)) * size[0], rng.integers(3, 20, num_objects)
    for t in range(frames):
        for k in range(num_objects):
            dy, dx = y - centres[k, 0] - steps[k, 0] * t, x - centres[k, 1] - steps[k, 1] * t
            outline = radii[k] * (1 + 0.15 * np.sin(waves[k] * np.arctan2(dy, dx) + 0.1 * t))
            masks[t][np.hypot(dy, dx) < outline] = k + 1
    return masks


def write_davis(root: Path, sequences: Sequence[np.ndarray]) -> None:
    """A DAVIS-2017 tree of masks (T, H, W), with black frames: the scores do not look at them."""
    for index, masks in enumerate(sequences):
        for t, mask in enumerate(masks):
            frame, path = (root / f"{kind}/480p/blobs-{index}" for kind in ("JPEGImages", "Annotations"))
            write_mask(path / f"{t:05d}.png", mask)
            frame.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", mask.shape[::-1]).save(frame / f"{t:05d}.jpg")
    listing = root / "ImageSets/2017/val.txt"
    listing.parent.mkdir(parents=True)
    listing.write_text("".join(f"blobs-{index}\n" for index in range(len(sequences))))


def one_frame_late(masks: np.ndarray, num_objects: int) -> np.ndarray:
    """A prediction (T, H, W) that is a frame behind; objects that frame 0 does not show are background."""
    late = np.concatenate([masks[:1], masks[:-1]])
    return np.where(late > num_objects, 0, late).astype(np.uint8)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m lib.benchmark metrics`."""
    parser.add_argument("--davis", type=Path, help="DAVIS root with real masks (default: seeded moving blobs)")
    parser.add_argument("--split", default="val", help="list in ImageSets/{year}/ (default: val)")
    parser.add_argument("--max-frames", type=int, default=22, help="frames of each sequence (default: 22)")
    parser.add_argument("--sequences", type=int, default=4, help="moving blobs: sequences (default: 4)")
    parser.add_argument("--objects", type=int, default=5, help="moving blobs: objects in each (default: 5)")
    shape = {"nargs": 2, "default": (480, 854), "metavar": ("H", "W")}
    parser.add_argument("--size", type=int, **shape, help="moving blobs: pixels")
    parser.add_argument("--seed", type=int, default=0, help="moving blobs: seed (default: 0)")
    parser.add_argument("--compared", type=int, default=1, help="sequences the slow loop is timed on (default: 1)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each alternative, best counts (default: 3)")


def run(args: argparse.Namespace) -> dict:
    """Measure, by the module's head."""
    check_counts(args, "sequences", "objects", "compared", "rounds")
    check_counts(args, "max_frames", least=3)
    with tempfile.TemporaryDirectory() as folder:
        root = args.davis or Path(folder, "truth")
        if args.davis is None:
            blobs = partial(moving_blobs, np.random.default_rng(args.seed), args.max_frames, args.objects, args.size)
            write_davis(root, [blobs() for _ in range(args.sequences)])
        dataset, late = DavisDataset(root, args.split), Path(folder, "predictions")
        pairs = []
        for sequence in dataset:
            truth = sequence.masks(args.max_frames)
            predicted = one_frame_late(truth, sequence.num_objects)
            for stem, mask in zip(sequence.stems, predicted, strict=False):
                write_mask(late / sequence.name / f"{stem}.png", mask)
            if len(pairs) < args.compared:
                pairs.append((truth[SCORED], predicted[SCORED], sequence.num_objects))
        result = {**_loops(pairs, args.rounds), **_workers(root, late, args)}
    return {**result, "peak_memory_mb": peak_memory_mb(), **conditions()}


def _loops(pairs: list[tuple[np.ndarray, np.ndarray, int]], rounds: int) -> dict:
    scores: dict[Callable, list] = {}

    def score(way: Callable) -> None:
        scores[way] = [way(*pair) for pair in pairs]

    ways = {"reference": reference_scores, "score_sequence": score_sequence}
    times = best_times({name: partial(score, way) for name, way in ways.items()}, rounds)
    ours = scores[score_sequence]
    count = sum(len(truth) * num_objects for truth, _, num_objects in pairs)
    gaps = [np.abs(np.subtract(a, b)).max(axis=(1, 2)) for a, b in zip(*scores.values(), strict=True)]
    largest = np.max(gaps, axis=0)
    return {
        "frame_objects": count,
        "pixels": " ".join(sorted({f"{truth.shape[1]}x{truth.shape[2]}" for truth, _, _ in pairs})),
        "mean_J": float(np.mean([region.mean() for region, _ in ours])),
        "mean_F": float(np.mean([boundary.mean() for _, boundary in ours])),
        "largest_difference_J": float(largest[0]),
        "largest_difference_F": float(largest[1]),
        "reference_seconds": times["reference"] / count,
        "score_sequence_seconds": times["score_sequence"] / count,
        "ratio": times["reference"] / times["score_sequence"],
    }


def _workers(root: Path, predictions: Path, args: argparse.Namespace) -> dict:
    score = partial(score_davis, root, predictions, args.split, max_frames=args.max_frames)
    times = best_times({"one": partial(score, workers=1), "two": partial(score, workers=2)}, args.rounds)
    return {
        "score_davis_seconds_1_worker": times["one"],
        "score_davis_seconds_2_workers": times["two"],
        "speed_up_of_2_workers": times["one"] / times["two"],
    }
