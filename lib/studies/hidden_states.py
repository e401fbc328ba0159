"""What a frozen video ladder's memory knows of actions: clips of real frames in, features out, a small classifier.

Shapes: `n` clips, `D` width of a feature, `C` classes.
"""

import shutil
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch
from scipy.stats import binomtest
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lib.data.frame_clips import EvenWindows
from lib.evaluation.recognition import average_views, topk_accuracy
from lib.models.state_classifier import StateClassifier, pooled_features, state_features
from lib.models.video_ladder import VideoLadder
from lib.presets.ladder import STATES
from lib.runtime import digest, progress
from lib.training import fit

AT_ONCE = 16
LENGTHS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)  # of the preset's epochs, each a training of its own
CURVES = ("both", "both, no BatchNorm", "both, dropout 0.3", "states, changes")  # arms that are trained for each length
ARMS = {
    "deepest": ("deepest", {}),
    "subsampled": ("subsampled", {}),
    "both": ("both", {}),
    "both, no BatchNorm": ("both", {"norm": False}),
    "both, dropout 0.3": ("both", {"dropout": 0.3}),
    "states, pooled": ("states, pooled", {}),
    "states, changes": ("states, changes", {}),
    "encoder, pooled": ("encoder, pooled", {}),
    "encoder, changes": ("encoder, changes", {}),
}


class Features(Dataset):
    """Features float (n, D) with labels int64 (n,); the index may go on counting."""

    def __init__(self, features: Tensor, labels: Tensor):
        self.features, self.labels = features, labels
        self.identity = digest(tuple(features.shape), float(features.double().sum()), labels.tolist())

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"features": self.features[index % len(self)], "label": self.labels[index % len(self)]}


@torch.inference_mode()
def read_features(model: VideoLadder, windows: EvenWindows) -> tuple[dict[str, Tensor], Tensor]:
    """Of every clip each kind of features float32 (n, D), on the CPU, and the labels int64 (n,)."""
    device, found, labels = next(model.eval().parameters()).device, {}, []
    for batch in progress(DataLoader(windows, AT_ONCE), "states"):
        frames = batch["video"].to(device).transpose(1, 2).float() / 255
        states, taps = zip(*model.memories(frames), strict=True)
        features = state_features(states[-1])
        sources = {"states": [[*chain(*state)] for state in states], "encoder": [[maps[-1]] for maps in taps]}
        for name, maps in sources.items():
            mean, change = pooled_features(maps)
            features |= {f"{name}, pooled": mean, f"{name}, changes": change}
        for name, values in features.items():
            found.setdefault(name, []).append(values.float().cpu())
        labels.append(batch["label"])
    return {name: torch.cat(parts) for name, parts in found.items()}, torch.cat(labels)


def accuracies(model: VideoLadder, train: EvenWindows, test: EvenWindows, seed: int, folder: Path) -> list[dict]:
    """Records of every arm's accuracy, percent: by "clip", and by "video", whose clips' probabilities are averaged,
    with that one's 95 % interval over videos (Wilson 1927). "0.25 of the epochs": of shorter trainings.
    """
    shutil.rmtree(folder, ignore_errors=True)  # features may differ in their last digits on another machine
    (known, labels), (asked, truth) = (read_features(model, part) for part in (train, test))
    found = []
    for arm, (kind, changes) in ARMS.items():
        mean, deviation = known[kind].mean(dim=0), known[kind].std(dim=0)
        deviation[deviation == 0] = 1.0  # of a feature that never varies
        samples = Features((known[kind] - mean) / deviation, labels)
        for length in LENGTHS if arm in CURVES else LENGTHS[-1:]:
            torch.manual_seed(seed)
            head = StateClassifier(known[kind].shape[1], len(train.videos.classes), STATES.hidden, **changes)
            settings = replace(STATES, epochs=STATES.epochs * length)
            fit(head, samples, settings, folder / f"{arm} {length}", seed)
            scores = scores_of(head, (asked[kind] - mean) / deviation)
            name = arm if length == 1 else f"{arm}, {length:g} of the epochs"
            videos, answers = average_views(scores, test.windows), truth[:: test.windows]
            right = topk_accuracy(videos, answers, ks=(1,))[1]
            low, high = binomtest(round(right * len(answers)), len(answers)).proportion_ci(method="wilson")
            found.append({"metric": f"{name}: clip", "value": 100 * topk_accuracy(scores, truth, ks=(1,))[1]})
            found.append(
                {"metric": f"{name}: video", "value": 100 * right, "low": 100 * float(low), "high": 100 * float(high)}
            )
    return found


@torch.inference_mode()
def scores_of(head: StateClassifier, features: Tensor) -> Tensor:
    """Probabilities float32 (n, C)."""
    device = next(head.eval().parameters()).device
    return head.layers(features.to(device)).float().softmax(dim=-1).cpu()
