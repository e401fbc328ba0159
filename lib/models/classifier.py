"""A pre-trained model fine-tuned end to end to classify pictures or videos (AdaMAE, appendix A.6, Table 6).

All regularisation is timm's own; flips and RandAugment are the data's. A trap of the published code is avoided: it
hands videos (B, 3, T, H, W) to timm's CutMix for images, which then cuts frames and rows, and mixes the labels by the
area of rows and columns. Here channels and frames are merged first. Shapes: `B` batch, `T` frames, `H W` pixels, `N`
tokens, `h w` patch grid, `D` width, `C` classes. "Inputs" are pictures (B, 3, H, W) or videos (B, 3, T, H, W).
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from timm.data.mixup import Mixup
from timm.data.random_erasing import RandomErasing
from timm.layers import DropPath, trunc_normal_
from timm.loss import SoftTargetCrossEntropy
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn

from lib.errors import UserError
from lib.libraries import seeded_draws
from lib.tokens.cubes import normalize_videos
from lib.tokens.patches import normalize_images

HEAD_SCALE = 0.001  # of the classifier's first weights, as published: all classes start equally likely


class Classifier(nn.Module):
    """A pre-trained model with a linear classifier on its averaged, normalised tokens.

    `model(batch)` takes {"video" or "image": uint8 inputs, "label": int64 (B,)} and returns (loss, logs). In training
    mode inputs are erased and mixed and labels are smoothed; in evaluation mode the loss is the plain cross-entropy.

    Args:
        backbone: `features(inputs)` gives tokens (B, N, D) or a map (B, D, h, w) of normalised inputs; its part
            `encoder` holds timm's `blocks` and, if there is one, the `norm` behind them. It is changed: the encoder's
            blocks get drop path, and all else, such as a decoder or a sampler, is frozen, because classification
            gives it no gradient.
        width, num_classes: D and C.
        layer_decay: of the learning rate, from block to block. Others: see lib.presets.finetuning.
    """

    def __init__(
        self, backbone: nn.Module, width: int, num_classes: int, layer_decay: float = 0.75,
        label_smoothing: float = 0.1, mixup: float = 0.8, cutmix: float = 1.0, drop_path: float = 0.1,
        erasing: float = 0.0,
    ):  # fmt: skip
        super().__init__()
        given = {name: value for name, value in locals().items() if name not in {"self", "__class__", "backbone"}}
        self.architecture = {**getattr(backbone, "architecture", {}), **given}
        self.backbone, self.layer_decay = backbone, layer_decay
        self.label_smoothing, self.erasing = label_smoothing, erasing
        backbone.requires_grad_(False)
        backbone.encoder.requires_grad_(True)
        blocks = backbone.encoder.blocks
        for block, rate in zip(blocks, np.linspace(0, drop_path, len(blocks)), strict=True):
            block.drop_path1, block.drop_path2 = (DropPath(float(rate)) if rate else nn.Identity() for _ in range(2))
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, num_classes)
        trunc_normal_(self.head.weight, std=0.02)
        self.head.weight.data.mul_(HEAD_SCALE)
        nn.init.zeros_(self.head.bias)
        self.mix = None
        if mixup or cutmix:
            self.mix = Mixup(mixup, cutmix, label_smoothing=label_smoothing, num_classes=num_classes)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """See the class; with mixup or CutMix a batch must be even."""
        if "video" in batch:
            inputs, labels = normalize_videos(batch["video"]).contiguous(), batch["label"]
        else:
            inputs, labels = normalize_images(batch["image"]), batch["label"]
        if labels.min() < 0 or labels.max() >= self.head.out_features:
            raise UserError(f"labels {labels.min()}..{labels.max()} are not all in 0..{self.head.out_features - 1}")
        if not self.training:
            loss = F.cross_entropy(self.logits(inputs).float(), labels)
        else:
            with seeded_draws(int(torch.randint(2**32, ()))):  # from the step's own seed
                inputs = self._erase(inputs)
                inputs, targets = self._mix(inputs, labels)
            loss = SoftTargetCrossEntropy()(self.logits(inputs).float(), targets)
        return loss, {"loss": loss.detach()}

    def logits(self, inputs: Tensor) -> Tensor:
        """(B, C) of normalised inputs."""
        features = self.backbone.features(inputs)
        return self.head(self.norm(features.mean(dim=1 if features.ndim == 3 else (2, 3))))

    def parameter_groups(self, weight_decay: float) -> list[dict]:
        """AdamW groups with timm's layer-wise learning rates: `lr_scale` is layer_decay ** (layers above).

        The classifier and the norms behind the blocks are the top layer; what feeds the blocks is the lowest. Biases,
        norms, tokens and position tables do not decay.
        """
        plain = [name for name, _ in self.named_parameters() if name.endswith(("cls_token", "pos_embed"))]
        return param_groups_layer_decay(self, weight_decay, plain, layer_decay=self.layer_decay)

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """The number of a parameter's layer from its name, as `param_groups_layer_decay` asks for it."""
        depth = len(self.backbone.encoder.blocks)

        def layer(name: str) -> int:
            part, _, rest = name.removeprefix("backbone.encoder.").partition(".")
            if not name.startswith("backbone.") or part == "norm":
                return depth + 1
            return 1 + int(rest.split(".")[0]) if part == "blocks" else 0

        return layer

    def _erase(self, inputs: Tensor) -> Tensor:
        """Noise in one box of an input, of all its frames alike, at the rate `erasing`; changed in place."""
        erase = RandomErasing(self.erasing, mode="pixel", device=inputs.device)
        for one in inputs if self.erasing else ():
            erase(one.flatten(0, -3))
        return inputs

    def _mix(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs, mixed in place, and targets (B, C), which sum to 1 for each."""
        if self.mix is None:
            smoothing, classes = self.label_smoothing, self.head.out_features
            return inputs, F.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes
        if len(inputs) % 2:
            raise UserError(f"a batch of {len(inputs)} inputs is odd: mixup and CutMix pair them; make it even")
        _, targets = self.mix(inputs.flatten(1, -3), labels)  # a view: channels and frames are one axis to timm
        return inputs, targets
