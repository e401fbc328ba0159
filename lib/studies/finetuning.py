"""Fine-tuning with labels and testing on several views of each video (AdaMAE, appendix A.6)."""

from collections.abc import Iterable
from pathlib import Path

import torch
from scipy.stats import binomtest
from torch import Tensor
from torch.utils.data import DataLoader

from lib.data.action_clips import TestingViews, TrainingClips
from lib.evaluation.recognition import average_views, topk_accuracy
from lib.models.classifier import Classifier
from lib.models.video_mae import VideoMAE
from lib.presets.finetuning import FineTuning
from lib.runtime import progress
from lib.studies.shipped import load_or_fit
from lib.tokens.cubes import normalize_videos

VIEWS_AT_ONCE = 12


def finetune(
    model: VideoMAE, settings: FineTuning, clips: TrainingClips, views: TestingViews, out_dir: Path,
    shipped: Path | None = None,
) -> dict[str, float]:  # fmt: skip
    """Fine-tune the encoder, or go on, or load (see `load_or_fit`), and test it on all views; `model` is changed.

    Returns `top1` and `top5`, 0 to 1, and `low` and `high`, top-1's 95 % interval over videos (Wilson 1927).
    """
    scores, truth = finetuned_scores(model, settings, clips, views, out_dir, shipped)
    accuracy = topk_accuracy(scores, truth, ks=(1, 5))
    low, high = binomtest(round(accuracy[1] * len(truth)), len(truth)).proportion_ci(method="wilson")
    return {"top1": accuracy[1], "top5": accuracy[5], "low": low, "high": high}


def finetuned_scores(
    model: VideoMAE, settings: FineTuning, clips: TrainingClips, views: TestingViews, out_dir: Path,
    shipped: Path | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """As `finetune`: probabilities (n, classes) of the test videos, means over their views, and labels (n,)."""
    width, classes = model.architecture["embed_dim"], len(clips.actions.classes)
    classifier = Classifier(model, width, classes, **settings.classifier_arguments())
    load_or_fit(shipped, classifier, clips, settings, out_dir, clips.seed)
    scores, truth = class_probabilities(classifier, DataLoader(views, VIEWS_AT_ONCE))
    return average_views(scores, views.views), truth[:: views.views]


@torch.inference_mode()
def class_probabilities(model: Classifier, batches: Iterable[dict[str, Tensor]]) -> tuple[Tensor, Tensor]:
    """Probabilities float32 (M, C) and labels int64 (M,) of all samples, on the CPU; leaves the model evaluating."""
    device = next(model.eval().parameters()).device
    probabilities, labels = [], []
    for batch in progress(batches, "classify"):
        videos = normalize_videos(batch["video"].to(device))
        probabilities.append(model.logits(videos).float().softmax(dim=-1).cpu())
        labels.append(batch["label"])
    return torch.cat(probabilities), torch.cat(labels)
