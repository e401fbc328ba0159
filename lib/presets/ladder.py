"""Settings of the video ladder, and of the classifier of its states: two cores in minutes, and the report's.

`toy`, the default, is for the toy world's studio, whose videos have 15 frames a second, `laptop` for JHMDB or UCF101.
`report` is what a course report trained for six days on a GTX 1080 Ti; what only its released code says is marked.
"""

from dataclasses import dataclass, replace

from lib.presets.record import Schedule


@dataclass(frozen=True, kw_only=True)
class Ladder(Schedule):
    """Settings of one scale. The defaults are the report's.

    Data: `size` (H, W) at which whole frames are read; clips of `num_frames` at `fps`, one rate after the other, each
    for `fps_epochs` epochs; `cache_frames` keeps videos decoded on disk; `windows`: clips of each that are classified.
    Model: see lib.models.video_ladder; `encoder_weights` is a name of torchvision's, None for random ones.
    Training: `base_lr` per 256 clips is 3e-3 at a batch of 16, and longer gradients are shortened to `clip_norm` (both
    the code's); one cosine, where the code has one an epoch, is ours.
    """

    size: tuple[int, int] = (128, 160)
    num_frames: int = 6
    fps: tuple[float, ...] = (25.0, 15.0, 10.0)
    fps_epochs: float = 4.0
    cache_frames: bool = False

    encoder_weights: str | None = "IMAGENET1K_V1"
    frozen: bool = True
    given: int = 3
    channels: int = 64
    loss_weights: tuple[float, float, float] = (0.9, 0.05, 0.05)

    epochs: float = 140
    warmup_epochs: float = 0
    batch_size: int = 16
    base_lr: float = 0.048
    weight_decay: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float = 1.0
    windows: int = 8

    free = (*Schedule.free, "cache_frames", "windows")
    shortened = (*Schedule.shortened, "fps_epochs")

    def model_arguments(self) -> dict:
        """Those of lib.models.video_ladder.VideoLadder that a preset decides."""
        return {name: getattr(self, name) for name in ("size", "given", "channels", "frozen", "loss_weights")}


REPORT = Ladder()
# A frozen encoder should know ImageNet. Small runs download nothing, so they begin with random weights and train all.
_SMALL = replace(
    REPORT, size=(64, 64), encoder_weights=None, frozen=False, channels=16, batch_size=4, base_lr=0.128,
    cache_frames=True, workers=0, windows=3, save_every=200,
)  # fmt: skip
LADDER = {
    "toy": replace(_SMALL, fps=(15.0, 7.5), epochs=13.4, warmup_epochs=1),
    "laptop": replace(_SMALL, fps_epochs=2.0, epochs=8.2, warmup_epochs=0.5),
    "report": REPORT,
}


@dataclass(frozen=True, kw_only=True)
class StateClassification(Schedule):
    """Settings of the classifier of states: `hidden` units (2000 in the report), Adam without decay."""

    hidden: int = 2000

    epochs: float = 16
    warmup_epochs: float = 0
    batch_size: int = 64
    base_lr: float = 4e-3
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    workers: int = 0
    save_every: int = 1_000_000


STATES = StateClassification()
