"""Settings of fine-tuning: of a video model for actions (AdaMAE, appendix A.6, Table 6), or of another."""

from dataclasses import dataclass, replace

from lib.errors import UserError
from lib.presets.record import Schedule


@dataclass(frozen=True, kw_only=True)
class FineTuning(Schedule):
    """What all have. erasing: probability of random erasing. mixup, cutmix: parameters of their Beta laws, 0 for none;
    with both on, each batch gets one of them. drop_path: rate of the last block, growing linearly from 0 at the first.
    """

    layer_decay: float = 0.75
    label_smoothing: float = 0.1
    mixup: float = 0.8
    cutmix: float = 1.0
    drop_path: float = 0.1
    erasing: float = 0.0

    betas: tuple[float, float] = (0.9, 0.999)

    def classifier_arguments(self) -> dict:
        """Those of lib.models.classifier.Classifier."""
        names = ("layer_decay", "label_smoothing", "mixup", "cutmix", "drop_path", "erasing")
        return {name: getattr(self, name) for name in names}

    def check(self) -> None:
        """As every record, and what the regularisation asks."""
        super().check()
        for name in ("layer_decay", "label_smoothing", "drop_path", "erasing"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} {getattr(self, name)} is outside 0..1: choose a value between them")
        if min(self.mixup, self.cutmix) < 0:
            raise UserError(f"mixup {self.mixup} and cutmix {self.cutmix}: 0 turns one off, less means nothing")
        if (self.mixup or self.cutmix) and self.batch_size % 2:
            raise UserError(f"batch_size {self.batch_size} is odd: mixup and CutMix pair the samples of a batch")


@dataclass(frozen=True, kw_only=True)
class VideoFineTuning(FineTuning):
    """Settings of one scale. The defaults are Table 6, where it speaks.

    batch_size is that of section 4 (32 on each of 8 GPUs). rand_augment is in timm's notation: the table says
    "(0.9, 0.05)", read here as MAE's (9, 0.5), magnitude and deviation, with the code's four operations of growing
    strength. Random erasing is not named by the table.
    """

    rand_augment: str = "rand-m9-n4-mstd0.5-inc1"
    warmup_epochs: float = 40
    batch_size: int = 256


KINETICS = VideoFineTuning(base_lr=1e-3, epochs=100)
_SMALL = VideoFineTuning(base_lr=0.016, epochs=4, warmup_epochs=1, batch_size=16, workers=0, save_every=100)
# The epochs are those of the published scripts, which lie in each other's folder and use other numbers than Table 6
# (warm-up 5, batch 512, erasing 0.25, rand-m7).
FINE_TUNING = {
    "toy": _SMALL,
    "laptop": _SMALL,
    "colab": replace(_SMALL, batch_size=64, base_lr=1e-3, epochs=50, warmup_epochs=5, workers=2),
    "light": KINETICS,
    "paper": KINETICS,
    "ssv2": replace(KINETICS, base_lr=1.5e-4, epochs=50),
}
