"""Every setting of a run, as presets: what a laptop does in minutes and what the paper did, side by side.

`toy` is the notebooks' default: two CPU cores, about two minutes a notebook, on the toy world. `laptop` trains ten
minutes on two CPU cores, for real clips. `colab` is for one 16 GB GPU and a Kinetics subset. `paper` is SiamMAE's
Table 4 (arXiv 2305.14344) in full; what the table leaves open is marked below.
"""

import math
from dataclasses import asdict, dataclass, fields, replace

from lib.errors import UserError, unknown


@dataclass(frozen=True)
class Preset:
    """Settings of one scale. The defaults are the paper's.

    Model: `encoder` names a size of lib.models.vit; the decoder's shape is not stated in the paper (CropMAE's).
    Data: `gap` in frames at 30 fps; `crop_scale` as a share of the frame's area; `frame_size` is the short side in
    pixels at which frames are read (None: as they are); `cache_frames` keeps them decoded on disk.
    Training: `epochs` counts passes in which each clip gives `repeated_sampling` pairs; `base_lr` is per 256 pairs
    (whether the paper's 1.5e-4 is meant so is not stated; MAE's code does).
    Evaluation: `eval_size` is the input height and width for objects, `part_size` for body parts and joints, which are
    smaller (None: the protocol's own), `eval_frames` the first frames of each DAVIS sequence that are used (None: all),
    `blocks` the encoder blocks whose output is scored (-1: the last).
    """

    encoder: str = "small"
    image_size: int = 224
    patch_size: int = 16
    decoder_embed_dim: int = 256
    decoder_depth: int = 4
    decoder_num_heads: int = 8
    mask_ratio: float = 0.95
    mae_mask_ratio: float = 0.75

    gap: tuple[int, int] = (4, 48)
    crop_scale: tuple[float, float] = (0.5, 1.0)
    repeated_sampling: int = 2
    frame_size: int | None = None
    cache_frames: bool = False
    workers: int = 8

    epochs: int = 2000
    warmup_epochs: int = 40
    batch_size: int = 2048
    base_lr: float = 1.5e-4
    weight_decay: float = 0.05
    accumulation: int = 1
    save_every: int = 500

    protocol: str = "siammae-4b"
    eval_size: tuple[int, int] | None = None
    part_size: tuple[int, int] | None = None
    eval_frames: int | None = None
    blocks: tuple[int, ...] = (-1,)

    def model_arguments(self, size: dict[str, int]) -> dict:
        """Arguments common to MAE and SiamMAE, given the encoder's size (lib.models.vit.vit_size)."""
        shape = ("image_size", "patch_size", "decoder_embed_dim", "decoder_depth", "decoder_num_heads")
        return {**size, **{name: getattr(self, name) for name in shape}}

    def steps(self, num_clips: int) -> int:
        """Optimizer steps of the whole run on `num_clips` clips (at least one)."""
        return max(1, round(self.epochs * num_clips * self.repeated_sampling / self.batch_size))

    def warmup_steps(self, num_clips: int) -> int:
        """Optimizer steps of the warm-up, which is never longer than a tenth of a shortened run."""
        share = min(self.warmup_epochs / self.epochs, 0.1)
        return math.ceil(share * self.steps(num_clips))


PAPER = Preset()

# Small runs depart from the paper in one thing besides size. A 64-pixel crop of half the frame or more shows things
# at a quarter of the size at which the evaluation's 240 or 144 lines show them. So crops are smaller parts of frames
# read at the evaluation's size, patches mean the same in both, and gaps are shorter, lest things leave the crop.
# Their protocol is videowalk's (crw), whose temperature is stated; SiamMAE's is not.
_SMALL = replace(
    PAPER, image_size=64, patch_size=8, decoder_embed_dim=128, decoder_depth=2, decoder_num_heads=4, gap=(4, 24),
    cache_frames=True, workers=0, batch_size=64, base_lr=4e-3, save_every=50, protocol="crw", blocks=(2, -1),
)  # fmt: skip
PRESETS = {
    "toy": replace(
        _SMALL, encoder="micro", crop_scale=(0.1, 0.35), frame_size=144, epochs=240, warmup_epochs=12,
        eval_size=(144, 192), part_size=(240, 320),
    ),
    "laptop": replace(
        _SMALL, encoder="mini", crop_scale=(0.08, 0.3), frame_size=240, epochs=1600, warmup_epochs=80,
        eval_size=(240, 432), eval_frames=30,
    ),
    "colab": replace(
        PAPER, encoder="tiny", image_size=112, patch_size=8, crop_scale=(0.15, 0.6), frame_size=240, workers=2,
        epochs=400, batch_size=256, base_lr=6e-4, save_every=200, eval_size=(240, 432), blocks=(6, -1),
    ),
    "paper": PAPER,
}  # fmt: skip


def get_preset(name: str, **overrides) -> Preset:
    """The preset `name` with some settings replaced; an override that is None leaves the preset's value.

    Lists count as tuples, because a notebook's parameters may come from JSON. Raises UserError for an unknown preset
    or setting (with the near misses) and for a value that cannot work.
    """
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    for setting in overrides:
        if setting not in {field.name for field in fields(Preset)}:
            raise unknown("setting", setting, [field.name for field in fields(Preset)])
    given = {key: tuple(v) if isinstance(v, list) else v for key, v in overrides.items() if v is not None}
    preset = replace(PRESETS[name], **given)
    _check(preset)
    return preset


def _check(preset: Preset) -> None:
    for field in fields(Preset):
        value, whole = getattr(preset, field.name), field.type is int
        if field.type in (int, float) and not isinstance(value, int if whole else int | float):
            raise UserError(f"{field.name} is {value}: it must be a {'whole ' if whole else ''}number")
    if preset.warmup_epochs < 0:
        raise UserError(f"warmup_epochs is {preset.warmup_epochs}: it must be 0 or more")
    for name in ("epochs", "batch_size", "repeated_sampling", "accumulation", "save_every", "patch_size", "base_lr"):
        if not getattr(preset, name) > 0:
            raise UserError(f"{name} is {getattr(preset, name)}: it must be above 0")
    pairs = preset.repeated_sampling * preset.accumulation
    if preset.batch_size % pairs:
        raise UserError(
            f"batch_size {preset.batch_size} is no multiple of repeated_sampling x accumulation = {pairs}: change one"
        )


def compare_presets(*names: str) -> list[dict]:
    """One row per setting with its value in each preset, for the notebooks' tables."""
    columns = {name: asdict(get_preset(name)) for name in names}
    return [{"setting": field.name, **{n: c[field.name] for n, c in columns.items()}} for field in fields(Preset)]
