"""Settings of MAE on CIFAR-10's pictures: what a laptop does, what one GPU does in minutes, and the course report.

`report` is what the report's logs and parameter counts tell (notebook 09); its decoder is a public
example's. `wide` has the report's widths on the pictures' own pixels, larger batches and fewer epochs, for a large GPU.
"""

from dataclasses import dataclass, replace

from lib.presets.finetuning import FineTuning
from lib.presets.record import Schedule


@dataclass(frozen=True, kw_only=True)
class Pictures(Schedule):
    """Settings of pre-training at one scale.

    pictures: how many of the training split, as many of each class (None, or more than there are: all). crop_area: the
    part of a picture that a random crop takes, before it is enlarged to image_size. norm_pix is off: such predictions
    are pictures that owe nothing to the truth, whose detail can be measured.
    """

    pictures: int | None = None
    crop_area: tuple[float, float] = (0.2, 1.0)
    image_size: int = 32
    patch_size: int = 4
    embed_dim: int = 128
    depth: int = 4
    num_heads: int = 4
    mlp_ratio: float = 4.0
    decoder_embed_dim: int = 64
    decoder_depth: int = 2
    decoder_num_heads: int = 4
    mask_ratio: float = 0.75
    norm_pix: bool = False

    def model_arguments(self) -> dict:
        """Those of MAE, save its masking."""
        names = ("image_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio")
        names += ("decoder_embed_dim", "decoder_depth", "decoder_num_heads", "mask_ratio", "norm_pix")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class PictureFineTuning(FineTuning):
    """Settings of fine-tuning and of the linear probe. The defaults are those of the report's logs; else MAE's, less
    its augmentations beyond crops and flips.

    labelled: how many pictures of the training split have labels (as `pictures`); probed: how many of these the linear
    probe is fitted to.
    """

    labelled: int | None = None
    probed: int = 5000
    crop_area: tuple[float, float] = (0.2, 1.0)

    mixup: float = 0.0
    cutmix: float = 0.0
    epochs: float = 50
    warmup_epochs: float = 5
    batch_size: int = 16
    base_lr: float = 1e-3


REPORT = Pictures(
    image_size=256, patch_size=32, embed_dim=1024, depth=6, num_heads=8, mlp_ratio=2.0, decoder_embed_dim=512,
    decoder_depth=6, decoder_num_heads=8, epochs=100, warmup_epochs=40, batch_size=16, base_lr=1e-3,
)  # fmt: skip
_SMALL = Pictures(epochs=16, warmup_epochs=1.6, batch_size=1024, base_lr=1e-3, workers=0)
CIFAR = {
    "toy": replace(_SMALL, embed_dim=64, depth=2, epochs=16, warmup_epochs=1.6, batch_size=128, base_lr=6e-3),
    "laptop": replace(_SMALL, pictures=10_000, batch_size=256, base_lr=4e-3),
    "colab": _SMALL,
    "wide": replace(
        REPORT, image_size=32, patch_size=4, decoder_depth=2, epochs=5, warmup_epochs=2, batch_size=256, workers=0,
        save_every=10**6,
    ),
    "report": REPORT,
}  # fmt: skip
_TUNED = PictureFineTuning(labelled=5000, batch_size=256, base_lr=4e-3, workers=0)
CIFAR_FINE_TUNING = {
    "toy": replace(_TUNED, labelled=None, probed=400, batch_size=64, epochs=10, warmup_epochs=1),
    "laptop": replace(_TUNED, labelled=2000, probed=2000),
    "colab": _TUNED,
    "wide": PictureFineTuning(labelled=2500, probed=2500, batch_size=256, workers=0, save_every=10**6),
    "report": PictureFineTuning(),
}
