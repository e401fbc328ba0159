"""SiamMAE's Table 1, from data and encoders to scores: objects ("davis"), body parts ("vip") and joints ("jhmdb").

The annotation of a video's first frame is carried through the video by frozen features (Gupta et al. 2023, arXiv
2305.14344, section 4.1), written in the files that the official scorers read, and scored from there. `load_encoders`,
`methods_of`, `score_methods` and `score_table`, one after the other, are the whole evaluation of one seed.
"""

import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor, nn

from lib import presets
from lib.data.davis import DavisDataset
from lib.data.jhmdb import JhmdbDataset
from lib.data.jhmdb_outlines import Outline
from lib.data.manifest import state_of
from lib.data.sequences import FrameSequence, MaskSequence, SequenceDataset
from lib.data.vip import VipDataset
from lib.errors import UserError
from lib.evaluation.features import rgb_patch_features
from lib.evaluation.keypoints import copy_first_joints, propagate_joints
from lib.evaluation.masks import copy_first_mask, propagate_masks
from lib.evaluation.protocols import PROTOCOLS, TASKS, Protocol, assumed, get_protocol, input_size
from lib.models.pretrained import load_encoder
from lib.models.siammae import SiamMAE
from lib.presets.frame_pairs import FramePairs
from lib.runtime import dataset_root, resolve, seed_everything
from lib.score.davis import score_masks
from lib.score.jhmdb import score_jhmdb
from lib.score.tracking import fingerprint, track_joints, track_masks, track_parts
from lib.score.vip import score_vip
from lib.studies.weights import named_weights

MEASURES = {
    "davis": ("JF_mean", "J_mean", "J_recall", "J_decay", "F_mean", "F_recall", "F_decay"),
    "vip": ("mIoU",),
    "jhmdb": ("PCK@0.1", "PCK@0.2"),
}
TRACKERS = {  # what writes predictions, what makes them from features, and from none
    "davis": (track_masks, propagate_masks, copy_first_mask),
    "vip": (track_parts, partial(propagate_masks, keep_first=False), copy_first_mask),  # frame 0 as the cells hold it
    "jhmdb": (track_joints, propagate_joints, copy_first_joints),
}
COPIED, RGB, UNTRAINED = "first annotation, copied", "RGB patches", "untrained ViT"
OWN = (UNTRAINED, "MAE", "SiamMAE")

Scores = dict[str, dict[str, dict]]  # task -> name of the method -> what its scorer returned


# --- Data and protocols ---


def open_tasks(
    data_root: str | Path, split: str = "val", wanted: Collection[str] = TASKS
) -> dict[str, SequenceDataset]:
    """The data sets of the wanted tasks that lie below `data_root`; "davis" must, be it of 2017 or of 2016."""
    tasks = {"davis": DavisDataset(dataset_root(data_root, ["davis2017", "davis2016"]), split)}
    vip, jhmdb = resolve(data_root) / "vip", resolve(data_root) / "jhmdb"
    if "vip" in wanted and vip.is_dir():
        tasks["vip"] = VipDataset(vip, split)
    if "jhmdb" in wanted and jhmdb.is_dir():
        tasks["jhmdb"] = JhmdbDataset(jhmdb, _joint_split(jhmdb))
    return tasks


def _joint_split(root: Path) -> int | None:
    """JHMDB's first split; without lists every clip that is there."""
    return 1 if any((root / name).is_dir() for name in ("splits", "sub_splits")) else None


def protocols_of(settings: FramePairs) -> dict[str, Protocol]:
    """The protocol that the settings name, for each task that it defines, at the settings' input sizes."""
    protocols = {}
    for task, size in (("davis", settings.eval_size), ("vip", settings.part_size), ("jhmdb", settings.part_size)):
        if task == "davis" or task in PROTOCOLS[settings.protocol]:  # all define davis; an unknown one is refused
            protocols[task] = get_protocol(settings.protocol, task, **({"input_size": size} if size else {}))
    return protocols


def describe_davis(davis: DavisDataset, world: str, max_frames: int | None = None, first: int | None = None) -> str:
    """What stands beside J&F: data set, sequences (the `first` alone), frames, objects. `world`: "" for real data."""
    sequences = davis.sequences[:first]
    longest = min(max(map(len, sequences)), max_frames or math.inf)
    least, most = (bound(sequence.num_objects for sequence in sequences) for bound in (min, max))
    objects = _counted(most, "object") if least == most else f"{least} to {most} objects"
    number = f"{'the first ' * (first is not None)}{_counted(len(sequences), 'sequence')}"
    frames = f"{'first' if max_frames else 'up to'} {longest} frames"
    return f"{_layout(world)}{davis.title}, {number}, {frames}, {objects}"


def describe(tasks: Mapping[str, SequenceDataset], settings: FramePairs, world: str, seed: int) -> dict[str, object]:
    """What the scores of these tasks are of, as columns: `data`, `seed` and, where they are, `parts` and `joints`."""
    columns = {"data": describe_davis(tasks["davis"], world, settings.eval_frames), "seed": seed}
    for task, column, unit in (("vip", "parts", "video"), ("jhmdb", "joints", "clip")):
        if task in tasks:
            columns[column] = f"{_layout(world)}{task.upper()}, {_counted(len(tasks[task]), unit)}"
    return columns


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}{'s' * (number != 1)}"


def _layout(world: str) -> str:
    return f"{world}, layout of " if world else ""


def conditions(
    tasks: Mapping[str, SequenceDataset], protocols: Mapping[str, Protocol], settings: FramePairs
) -> dict[str, str]:
    """What each number must carry, as columns: protocol, temperature (* where its source states none), input sizes."""
    star = "*" * assumed(settings.protocol, "temperature")
    columns = {"protocol": settings.protocol, "temperature": f"{protocols['davis'].temperature:g}{star}"}
    for task, dataset in tasks.items():
        size = input_size(next(iter(dataset)).frame(0).shape[:2], settings.patch_size, protocols[task])
        columns["input" if task == "davis" else f"{task} input"] = "x".join(map(str, size))
    return columns


# --- Encoders and methods ---


@dataclass(frozen=True)
class Method:
    """What carries annotations through a video.

    `features`: float (B, 3, H, W) -> (B, D, h, w), patches of `patch_size` pixels; None copies the first annotation.
    `encoder`, `block`: where they are from, "" and None where there is no network. `weights`: their fingerprint.
    """

    name: str
    features: Callable[[Tensor], Tensor] | None
    patch_size: int
    encoder: str = ""
    block: int | None = None
    weights: str = "none"

    @property
    def folder(self) -> str:
        """The name of the folder that holds its predictions."""
        words = self.name.replace(" ", "_").replace(",", "")
        return f"{words.replace('/', '_')}-{self.weights[:8]}" if "/" in words else words


def run_folders(out: Path, preset: str, settings: FramePairs, seed: int) -> dict[str, Path]:
    """Where training leaves MAE and SiamMAE below `out`, given SiamMAE's settings.

    What these have otherwise than their preset, MAE was given, too, but for the mask ratio, which is its preset's.
    """
    changed = {name: value for name, value in vars(settings).items() if value != getattr(presets.SIAMMAE[preset], name)}
    shared = {name: value for name, value in changed.items() if name not in ("mask_ratio", *settings.shortened)}
    single = presets.get(presets.MAE, preset, **shared)
    return {
        "MAE": out / presets.run_name("mae", presets.MAE, preset, single, seed),
        "SiamMAE": out / presets.run_name("siammae", presets.SIAMMAE, preset, settings, seed),
    }


def load_encoders(
    runs: Mapping[str, Path], settings: FramePairs, seed: int, weights: str | Sequence[str] = "", device: str = "cpu"
) -> dict[str, nn.Module]:
    """An untrained encoder (SiamMAE's, drawn from `seed`), those of the trained `runs`, and other people's.

    A run of MAE may be missing, SiamMAE's must be there. `weights`: as lib.studies.weights reads them.
    """
    seed_everything(seed)
    encoders = {UNTRAINED: SiamMAE(**settings.model_arguments()).encoder.eval()}
    for name, folder in runs.items():
        if (folder / "last.pt").is_file():
            encoders[name] = load_encoder(folder / "last.pt")
        elif name == "SiamMAE":
            raise UserError(f"{folder / 'last.pt'} does not exist: run notebook 3 first, with the same parameters")
    for name, (file, told) in named_weights(weights, taken=OWN).items():
        encoders[name] = load_encoder(file, **told)
    return {name: encoder.to(device) for name, encoder in encoders.items()}


def methods_of(encoders: Mapping[str, nn.Module], settings: FramePairs) -> dict[str, Method]:
    """Copied annotation, raw colour and each encoder: our own at the settings' blocks, others at their last one."""
    side = settings.patch_size
    methods = [Method(COPIED, None, side), Method(RGB, rgb_patch_features(side), side)]
    for name, encoder in encoders.items():
        depth = len(encoder.blocks)
        blocks = {depth if block == -1 else block for block in settings.blocks} if name in OWN else {depth}
        weights = fingerprint(encoder)
        for block in sorted(blocks):
            features = partial(encoder.features, block=block)
            methods.append(Method(f"{name}, block {block}", features, encoder.patch_size, name, block, weights))
    return {method.name: method for method in methods}


# --- Scores ---


def evaluate(
    method: Method, task: str, dataset: SequenceDataset, protocol: Protocol, folder: Path,
    max_frames: int | None = None, device: str = "cpu",
) -> dict:  # fmt: skip
    """Write a method's predictions in its own folder inside `folder`, those that are not there yet, and score them.

    `max_frames`: of each DAVIS sequence; VIP and JHMDB are taken whole. `dataset` of task "davis" may be any other one
    of objects. Returns what the task's scorer does.
    """
    write, propagate, copy = TRACKERS[task]
    given = {"feature_fn": method.features, "patch_size": method.patch_size, "protocol": protocol, "device": device}
    tracker, to = partial(propagate, **given) if method.features else copy, folder / method.folder
    record = {"method": method.name, "weights": method.weights, "protocol": asdict(protocol)}
    files = [path for video in dataset for path in (*video.files, _given(video)) if isinstance(path, Path)]
    record |= {"data": str(Path(dataset.root).resolve()), "files": state_of(files)}
    frames = {"max_frames": max_frames} if task == "davis" else {}
    write(dataset, tracker, to, record, workers=1 if device == "cuda" else os.cpu_count(), **frames)
    if task == "jhmdb":
        return score_jhmdb(dataset.root, to, _joint_split(dataset.root))
    return score_vip(dataset.root, to, dataset.split) if task == "vip" else score_masks(dataset, to, max_frames)


def _given(video: FrameSequence) -> object:
    """Where the annotation is from that is carried on."""
    source = video.sources[0] if isinstance(video, MaskSequence) else video.joints_path
    return source.path if isinstance(source, Outline) else source


def score_methods(
    tasks: Mapping[str, SequenceDataset], methods: Mapping[str, Method], protocols: Mapping[str, Protocol],
    folder: Path, max_frames: int | None = None, device: str = "cpu",
) -> Scores:  # fmt: skip
    """Every method on every task; predictions lie in `folder`/{task}. `max_frames` as in `evaluate`."""
    scores: Scores = {task: {} for task in tasks}
    for name, method in methods.items():
        for task, dataset in tasks.items():
            scores[task][name] = evaluate(method, task, dataset, protocols[task], folder / task, max_frames, device)
    return scores


def score_table(scores: Scores) -> pd.DataFrame:
    """A row for each method: the tasks' MEASURES in percent, and the share of joints that were lost."""
    rows = []
    for name in scores["davis"]:
        row = {key: 100 * scores[task][name][key] for task in scores for key in MEASURES[task]}
        if "jhmdb" in scores:
            row["lost joints, %"] = 100 * scores["jhmdb"][name]["lost_joints"]["share"]
        rows.append({"method": name, **row})
    return pd.DataFrame(rows)


def scores_of(
    encoder: nn.Module, tasks: Mapping[str, SequenceDataset], settings: FramePairs, folder: Path, device: str = "cpu"
) -> dict[str, float]:
    """One encoder's MEASURES in percent at the settings' last block and, named ", block N", at its others."""
    protocols = protocols_of(settings)
    methods = {name: method for name, method in methods_of({"SiamMAE": encoder}, settings).items() if method.encoder}
    tasks = {task: dataset for task, dataset in tasks.items() if task in protocols}
    table = score_table(score_methods(tasks, methods, protocols, folder, settings.eval_frames, device))
    scores = {}
    for line, method in zip(table.to_dict("records"), methods.values(), strict=True):
        words = "" if method.block == len(encoder.blocks) else f", block {method.block}"
        scores |= {f"{name}{words}": value for name, value in line.items() if name != "method"}
    return scores


def jf_by_sequence(score: dict) -> dict[str, float]:
    """J&F of each sequence in percent, mean over its objects, of what `evaluate` returned."""
    return {
        name: 50 * float(np.mean([values["J_mean"] + values["F_mean"] for values in objects.values()]))
        for name, objects in score["sequences"].items()
    }


def best_of(scores: Scores, methods: Mapping[str, Method]) -> Method:
    """The method of SiamMAE whose block scores best on objects."""
    own = [method for method in methods.values() if method.encoder == "SiamMAE"]
    return max(own, key=lambda method: scores["davis"][method.name]["JF_mean"])
