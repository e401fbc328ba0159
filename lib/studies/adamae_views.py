"""A trained AdaMAE on single clips: what it sees and paints, and how its sampler came to look there.

Shapes: `T` frames, `H W` pixels, grid (s, h, w) of `N` cubes, `R` regions.
"""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from lib.checkpoints import load_checkpoint
from lib.data.action_clips import ClipReader
from lib.data.actions import ActionList, action_splits, unlabelled
from lib.data.kinetics import split_videos
from lib.evaluation.focus import times_chance
from lib.models.adamae import AdaMAE
from lib.models.adaptive_sampler import gumbel_top_k
from lib.presets.video import Video
from lib.runtime import atomic_path, dataset_root, resolve
from lib.tokens.cubes import normalize_videos, paint_cubes
from lib.tokens.masking import Mask, num_visible
from lib.tokens.maskings import get_masking
from lib.toyworld.layers import LAYERS, list_studio

REGIONS = {"puppet": "moving objects", "poster": "static distractors", "wall": "plain backdrop"}
FOLDERS = {"ssv2": ["ssv2", "something-something-v2"], "jhmdb_actions": ["jhmdb_actions", "jhmdb"]}  # unlike the name
TITLES = {"kinetics400": "Kinetics-400", "ssv2": "Something-Something v2", "ucf101": "UCF101", "jhmdb_actions": "JHMDB"}
EVERY = 15  # steps between two snapshots of the sampler


class ActionData(NamedTuple):
    """Videos to train on and held-out ones, and how clips are read from them; skipped: those that give none."""

    train: ActionList
    test: ActionList
    reader: ClipReader
    skipped: int


def action_data(data_root: str | Path, settings: Video, frames: Path, name: str | None) -> ActionData:
    """The videos of the data set `name`: the toy world's "studio", or one of lib.data.actions.action_splits.

    None: Kinetics-400, with labels where its annotations and a `val` split are there. `frames` is for decoded videos,
    if the settings want that.
    """
    kinetics = dataset_root(data_root, ["kinetics400"]) if name is None else None
    if name == "studio":
        train, test = (list_studio(resolve(data_root) / "studio", split) for split in ("train", "val"))
    elif name:
        train, test = action_splits(dataset_root(data_root, FOLDERS.get(name, [name])), name)
    elif (kinetics / "annotations" / "val.csv").is_file() and (kinetics / "val").is_dir():
        train, test = action_splits(kinetics, "kinetics400")
    else:
        train, test = map(unlabelled, split_videos(kinetics))
    cache = frames if settings.cache_frames else None
    reader = ClipReader(settings.num_frames, settings.stride, settings.frame_size, cache)
    (train, skipped), (test, _) = (reader.usable(part, max_bad_fraction=0.2) for part in (train, test))
    return ActionData(train, test, reader, len(skipped))


@torch.inference_mode()
def view(model: AdaMAE, video: Tensor, mask_ratio: float | None = None) -> dict[str, Tensor]:
    """What the model makes of one clip, uint8 (3, T, H, W), at its own masking ratio or another.

    The fields of lib.plots.clips.ClipSample, on the CPU: `video`, `prediction` float (3, T, H, W), `probabilities`,
    `hidden`, and `errors`, NaN where visible, (s, h, w) each. The mask is drawn.
    """
    videos = video[None].to(next(model.parameters()).device)
    probabilities = model.probabilities(normalize_videos(videos))  # (1, s, h, w)
    mask = sampled_mask(probabilities, mask_ratio or model.mask_ratio)
    prediction, _ = model.predict(normalize_videos(videos), mask)
    errors, _ = model.errors(videos, mask)
    size = model.tubelet_size, model.patch_size
    return {
        "video": video,
        "probabilities": probabilities[0].cpu(),
        "hidden": mask.hidden.view(model.grid).cpu(),
        "prediction": paint_cubes(videos / 255, prediction.float(), mask.hidden, *size, model.norm_pix)[0].cpu(),
        "errors": errors.float().masked_fill(~mask.hidden, torch.nan).view(model.grid).cpu(),
    }


def sampled_mask(probabilities: Tensor, mask_ratio: float) -> Mask:
    """A mask drawn from (B, s, h, w), at any ratio."""
    log_probs = probabilities.flatten(1).log()
    return gumbel_top_k(log_probs, num_visible(log_probs.shape[1], mask_ratio))


@torch.inference_mode()
def four_masks(model: AdaMAE, video: Tensor, mask_ratio: float) -> dict[str, Tensor]:
    """Hidden cubes of one clip, bool (s, h, w), under random, tube, frame and the model's own masking."""
    device = next(model.parameters()).device
    probabilities = model.probabilities(normalize_videos(video[None].to(device))).cpu()
    tokens = torch.empty(1, model.num_cubes, 0)
    masks = {name: get_masking(name, mask_ratio)(tokens, model.grid) for name in ("random", "tube", "frame")}
    masks["adaptive"] = sampled_mask(probabilities, mask_ratio)
    return {name: mask.hidden.view(model.grid) for name, mask in masks.items()}


def watch(model: AdaMAE, video: Tensor, run_dir: Path) -> RemovableHandle:
    """From now on keep the probabilities of one clip, uint8 (3, T, H, W), in `watched.npz`, of each EVERY steps.

    A run that is resumed goes on with its file. The training does not depend on it: a step's random numbers are drawn
    before.
    """
    last, path = run_dir / "last.pt", run_dir / "watched.npz"
    first = load_checkpoint(last)["step"] if last.is_file() else 0
    kept = {step: maps for step, maps in read_watched(path).items() if step < first}
    calls = itertools.count(first)

    def keep(model: AdaMAE, *_) -> None:
        step = next(calls)
        if model.training and step % EVERY == 0:
            videos = normalize_videos(video[None].to(next(model.parameters()).device))
            kept[step] = model.probabilities(videos)[0].cpu().numpy()
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, steps=list(kept), probabilities=np.stack(list(kept.values())))

    return model.register_forward_hook(keep)


def read_watched(path: Path) -> dict[int, np.ndarray]:
    """What `watch` wrote to the file: step -> probabilities (s, h, w); nothing where there is no file."""
    if not path.is_file():
        return {}
    with np.load(path) as file:
        return dict(zip(file["steps"].tolist(), file["probabilities"], strict=True))


def meetings(watched: Mapping[int, np.ndarray], cover: Tensor) -> pd.DataFrame:
    """How often cubes drawn by the watched probabilities meet each region, on average: rows for `sampling_curves`.

    cover: (N, R), by lib.studies.masking.region_cover, the regions being LAYERS. One that hardly shows is left out.
    """
    weights = torch.from_numpy(np.stack(list(watched.values()))).flatten(1)  # (steps, N)
    met = times_chance(weights, cover.expand(len(weights), -1, -1))  # (steps, R)
    table = pd.DataFrame(met.numpy(), columns=[REGIONS[layer] for layer in LAYERS]).assign(step=list(watched))
    table = table.melt("step", var_name="region", value_name="times_chance")
    return table.dropna().sort_values("step", kind="stable")
