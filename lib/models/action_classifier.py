"""End-to-end fine-tuning of a pre-trained video model for action classification (AdaMAE, appendix A.6, Table 6).

The tokens are averaged, normalised and classified by one linear layer. All regularisation is timm's own: mixup,
CutMix, label smoothing, RandAugment, drop path, random erasing, layer-wise learning rates. `ActionClassifier` is
trained by `lib.training`, like every model here, with the learning rates of its layers. Flips are the data's affair.

A trap of the published code is avoided: it hands videos (B, 3, T, H, W) to timm's CutMix for images, which then cuts
frames and rows, and mixes the labels by the area of rows and columns. Here channels and frames are merged first.

Shapes: `B` batch, `T` frames, `H W` pixels, `N` tokens, `D` width, `C` classes.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from timm.data.auto_augment import RandAugment, rand_augment_transform
from timm.data.mixup import Mixup
from timm.data.random_erasing import RandomErasing
from timm.layers import DropPath, trunc_normal_
from timm.loss import SoftTargetCrossEntropy
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn

from lib.errors import UserError
from lib.runtime import progress
from lib.tokens.cubes import normalize_videos
from lib.tokens.patches import IMAGENET_MEAN
from lib.training import TrainOptions

HEAD_SCALE = 0.001  # of the classifier's first weights, as published: all classes start equally likely
IN_TRAINING = ("layer_decay", "label_smoothing", "mixup", "cutmix", "drop_path", "erasing")


@dataclass(frozen=True)
class FineTuning:
    """Settings of a fine-tuning run; the defaults are AdaMAE's Table 6, where it speaks.

    base_lr: per 256 videos; 1.5e-4 for Something-Something v2, 1e-3 for Kinetics-400 (`PAPER`). epochs, batch_size: not
    in Table 6; the epochs are those of the published scripts, the batch that of section 4 (32 on each of 8 GPUs).
    rand_augment: for `VideoRandAugment`, in timm's notation. The table says "(0.9, 0.05)", read here as MAE's (9, 0.5),
    magnitude and deviation; four operations of growing strength, as in the code. erasing: probability of random
    erasing, which the table does not name. mixup, cutmix: parameters of their Beta laws, 0 for none; with both on, each
    batch gets one of them. drop_path: rate of the last block, growing linearly from 0 at the first.
    """

    base_lr: float
    epochs: int
    batch_size: int = 256
    warmup_epochs: int = 40
    layer_decay: float = 0.75
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    rand_augment: str = "rand-m9-n4-mstd0.5-inc1"
    label_smoothing: float = 0.1
    mixup: float = 0.8
    cutmix: float = 1.0
    drop_path: float = 0.1
    erasing: float = 0.0

    def __post_init__(self) -> None:
        for name in ("layer_decay", "label_smoothing", "drop_path", "erasing"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} {getattr(self, name)} is outside 0..1: choose a value between them")
        if min(self.mixup, self.cutmix) < 0:
            raise UserError(f"mixup {self.mixup} and cutmix {self.cutmix}: 0 turns one off, less means nothing")
        if (self.mixup or self.cutmix) and self.batch_size % 2:
            raise UserError(f"batch_size {self.batch_size} is odd: mixup and CutMix pair the videos of a batch")

    def train_options(self, num_videos: int, **others) -> TrainOptions:
        """Options of `lib.training.train` for so many training videos; `others` are fields of TrainOptions.

        The last batch of an epoch may reach into the next: steps = epochs * num_videos / batch_size, rounded.
        """
        steps, warmup = (
            max(1, round(epochs * num_videos / self.batch_size)) if epochs else 0
            for epochs in (self.epochs, self.warmup_epochs)
        )
        given = {name: getattr(self, name) for name in ("batch_size", "base_lr", "weight_decay", "betas")}
        return TrainOptions(steps=steps, warmup_steps=warmup, **given, **others)


PAPER = {"ssv2": FineTuning(base_lr=1.5e-4, epochs=50), "kinetics400": FineTuning(base_lr=1e-3, epochs=100)}
# AdaMAE's scripts (read from the other's folder: the two are swapped) and the defaults of the code, VideoMAE's, behind
# them. The batch is 8 videos on each of 64 GPUs.
RELEASED = {
    name: FineTuning(lr, epochs, 512, warmup_epochs=5, rand_augment="rand-m7-n4-mstd0.5-inc1", erasing=0.25)
    for name, lr, epochs in (("ssv2", 5e-4, 50), ("kinetics400", 1e-3, 100))
}


class ActionClassifier(nn.Module):
    """A pre-trained video model with a linear classifier on its averaged tokens.

    `model(batch)` takes {"video": uint8 (B, 3, T, H, W), "label": int64 (B,)} and returns (loss, logs). In training
    mode videos are erased and mixed and labels are smoothed; in evaluation mode the loss is the plain cross-entropy.

    Args:
        backbone: `features(videos)` gives tokens (B, N, D) of normalised videos, float (B, 3, T, H, W); its part
            `encoder` holds timm's `blocks` and, if there is one, the `norm` behind them. It is changed: the encoder's
            blocks get drop path, and all else, such as a decoder or a sampler, is frozen, because classification
            gives it no gradient.
        width: D.
        num_classes: C.
        settings: see FineTuning.
    """

    def __init__(self, backbone: nn.Module, width: int, num_classes: int, settings: FineTuning):
        super().__init__()
        self.architecture = {**getattr(backbone, "architecture", {}), "width": width, "num_classes": num_classes}
        self.architecture |= {name: getattr(settings, name) for name in IN_TRAINING}  # a resumed run must agree in them
        self.backbone, self.settings = backbone, settings
        backbone.requires_grad_(False)
        backbone.encoder.requires_grad_(True)
        _set_drop_path(backbone.encoder.blocks, settings.drop_path)
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, num_classes)
        trunc_normal_(self.head.weight, std=0.02)
        self.head.weight.data.mul_(HEAD_SCALE)
        nn.init.zeros_(self.head.bias)
        self.mix = None
        if settings.mixup or settings.cutmix:
            smoothing = settings.label_smoothing
            self.mix = Mixup(settings.mixup, settings.cutmix, label_smoothing=smoothing, num_classes=num_classes)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """See the class. UserError for labels outside 0..C-1 and, with mixup or CutMix, for an odd batch."""
        videos, labels = normalize_videos(batch["video"]).contiguous(), batch["label"]
        if labels.min() < 0 or labels.max() >= self.head.out_features:
            raise UserError(f"labels {labels.min()}..{labels.max()} are not all in 0..{self.head.out_features - 1}")
        if not self.training:
            loss = F.cross_entropy(self.logits(videos).float(), labels)
        else:
            with _timm_draws():
                videos = self._erase(videos)
                videos, targets = self._mix(videos, labels)
            loss = SoftTargetCrossEntropy()(self.logits(videos).float(), targets)
        return loss, {"loss": loss.detach()}

    def logits(self, videos: Tensor) -> Tensor:
        """(B, C) of normalised videos, float (B, 3, T, H, W)."""
        return self.head(self.norm(self.backbone.features(videos).mean(dim=1)))

    def parameter_groups(self, weight_decay: float) -> list[dict]:
        """AdamW groups with timm's layer-wise learning rates: `lr_scale` is layer_decay ** (layers above).

        The classifier and the norms behind the blocks are the top layer, with scale 1; then each block from the last
        to the first; what feeds the blocks comes last, at layer_decay ** (depth + 1). Biases, norms, tokens and
        position tables do not decay.
        """
        plain = [name for name, _ in self.named_parameters() if name.endswith(("cls_token", "pos_embed"))]
        return param_groups_layer_decay(self, weight_decay, plain, layer_decay=self.settings.layer_decay)

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """The number of a parameter's layer from its name, as `param_groups_layer_decay` asks for it."""
        depth = len(self.backbone.encoder.blocks)

        def layer(name: str) -> int:
            part, _, rest = name.removeprefix("backbone.encoder.").partition(".")
            if not name.startswith("backbone.") or part == "norm":
                return depth + 1
            return 1 + int(rest.split(".")[0]) if part == "blocks" else 0

        return layer

    def _erase(self, videos: Tensor) -> Tensor:
        """Noise in one box of all frames of a video, at the settings' rate; (B, 3, T, H, W), changed in place."""
        erase = RandomErasing(self.settings.erasing, mode="pixel", device=videos.device)
        for video in videos:
            erase(video.flatten(0, 1))
        return videos

    def _mix(self, videos: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Videos (B, 3, T, H, W), mixed in place, and targets (B, C), which sum to 1 for each video."""
        if self.mix is None:
            smoothing, classes = self.settings.label_smoothing, self.head.out_features
            return videos, F.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes
        if len(videos) % 2:
            raise UserError(f"a batch of {len(videos)} videos is odd: mixup and CutMix pair them; make it even")
        _, targets = self.mix(videos.flatten(1, 2), labels)  # a view: channels and frames are one axis to timm
        return videos, targets


def _set_drop_path(blocks: nn.ModuleList, rate: float) -> None:
    """Give timm's blocks their drop path, from 0 at the first to `rate` at the last."""
    for block, probability in zip(blocks, np.linspace(0, rate, len(blocks)), strict=True):
        block.drop_path1 = DropPath(float(probability)) if probability else nn.Identity()
        block.drop_path2 = DropPath(float(probability)) if probability else nn.Identity()


@contextmanager
def _timm_draws(seed: int | None = None) -> Iterator[None]:
    """Seed the generators of Python and NumPy, from which timm draws, and put their states back afterwards.

    By default the seed comes from PyTorch's generator, which the training loop seeds at each step: so mixing is a
    function of the step too, and a resumed run repeats it.
    """
    states = random.getstate(), np.random.get_state()
    seed = int(torch.randint(2**32, ())) if seed is None else seed
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


class VideoRandAugment:
    """timm's RandAugment, the same operations on every frame: an `augment` of `lib.data.action_clips.TrainingClips`.

    config: timm's notation, such as FineTuning.rand_augment. image_size: side of the crops taken afterwards, by which
    translations are measured.
    """

    def __init__(self, config: str, image_size: int) -> None:
        mean = tuple(round(255 * value) for value in IMAGENET_MEAN)
        options = {"translate_const": int(image_size * 0.45), "img_mean": mean}
        try:
            self.transform = _at_least_one_bit(rand_augment_transform(config, options))
        except (AssertionError, ValueError):
            raise UserError(f"rand_augment {config!r} is not timm's notation, such as rand-m9-n4-mstd0.5") from None

    def __call__(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 (T, H, W, 3) -> the same; what is drawn is a function of `rng` alone."""
        seed, changed = int(rng.integers(2**32)), []
        for frame in frames:
            with _timm_draws(seed):  # the same draws for every frame: none of them depends on the picture
                changed.append(np.asarray(self.transform(Image.fromarray(frame))))
        return np.stack(changed)


def _at_least_one_bit(transform: RandAugment) -> RandAugment:
    """timm's posterizing may ask for 0 bits at full strength: black to older Pillows, an error to newer ones."""
    for operation in transform.ops:
        if operation.name == "PosterizeIncreasing":
            operation.level_fn = partial(_positive, operation.level_fn)
    return transform


def _positive(level_fn: Callable, *arguments) -> tuple[int]:
    return (max(1, *level_fn(*arguments)),)


@torch.no_grad()
def class_probabilities(
    model: ActionClassifier, batches: Iterable[dict[str, Tensor]], device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Probabilities float32 (M, C) and labels int64 (M,) of all samples of a loader, in its order, on the CPU.

    In evaluation mode, which is undone afterwards. For several views a video see `recognition.average_views`.
    """
    was_training = model.training
    model.eval().to(device)
    probabilities, labels = [], []
    try:
        for batch in progress(batches, "classify"):
            videos = normalize_videos(batch["video"].to(device))
            probabilities.append(model.logits(videos).float().softmax(dim=-1).cpu())
            labels.append(batch["label"])
    finally:
        model.train(was_training)
    if not labels:
        raise UserError("the loader gave no batch: there is nothing to classify")
    return torch.cat(probabilities), torch.cat(labels)
