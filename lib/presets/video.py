"""Settings of the video systems: what a laptop does in minutes, and AdaMAE's paper in full.

`toy`, the default, and `laptop`, for real clips, train minutes on two CPU cores; `colab`: one 16 GB GPU. `paper` is
Tables 4 and 5 (arXiv 2211.09120, appendix A.3 and A.5); `light` is it with the small runs' cheaper sampler.
"""

from dataclasses import dataclass, replace

from lib.errors import UserError
from lib.presets.record import Schedule


@dataclass(frozen=True, kw_only=True)
class Video(Schedule):
    """Settings of one scale. The defaults are the paper's.

    Data: `stride` in the file's own frames (4 on Kinetics-400, 2 on Something-Something v2); `frame_size` is the short
    side in pixels at which videos are read (None: as they are); `crop_area` is the part of the frame that a random
    crop takes (None: the released code's multi-scale crop); `cache_frames` keeps them decoded on disk.
    """

    num_frames: int = 16
    stride: int = 4
    frame_size: int | None = None
    crop_area: tuple[float, float] | None = None
    image_size: int = 224
    cache_frames: bool = False

    tubelet_size: int = 2
    patch_size: int = 16
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    decoder_embed_dim: int = 384
    decoder_depth: int = 4
    decoder_num_heads: int = 6
    norm_pix: bool = True
    mask_ratio: float = 0.95
    sampler_dim: int = 768
    sampler_mlp: bool = True
    sampling_weight: float = 1e-4

    epochs: float = 800
    warmup_epochs: float = 40
    batch_size: int = 256
    base_lr: float = 1.5e-4

    free = (*Schedule.free, "cache_frames")

    def architecture(self) -> dict:
        """The arguments of VideoMAE, save its masking."""
        names = ("num_frames", "image_size", "tubelet_size", "patch_size", "embed_dim", "depth", "num_heads")
        names += ("decoder_embed_dim", "decoder_depth", "decoder_num_heads", "norm_pix", "mask_ratio")
        return {name: getattr(self, name) for name in names}

    def sampler(self) -> dict:
        """The arguments of AdaMAE besides, save its variant."""
        return {name: getattr(self, name) for name in ("sampler_dim", "sampler_mlp", "sampling_weight")}

    def check(self) -> None:
        """As every record, and the crop."""
        super().check()
        if self.sampling_weight < 0:
            raise UserError(f"sampling_weight is {self.sampling_weight}: it must be 0 or more")
        low, high = self.crop_area or (1, 1)
        if not 0 < low <= high <= 1:
            raise UserError(
                f"crop_area is {[low, high]}: it must be the smallest and the largest part, above 0, up to 1"
            )


PAPER = Video()

# Besides size, small runs depart from the paper in crop, learning rate, target and sampler. The target is the pixels
# themselves: a cube normalised by its own deviation costs 1 until its texture is predicted, which short runs do
# nowhere, so all cubes would look equally hard and the sampler would have nothing to learn; Table 1d has both targets.
# The sampler is `light`: attention of half the width and a Linear, as Eq. 2 writes it, without the block's MLP. The
# block of full width costs more than the whole encoder of 5 % of the cubes (`python -m lib.benchmark masking`).
_SMALL = replace(
    PAPER, patch_size=8, embed_dim=128, depth=4, num_heads=4, decoder_embed_dim=64, decoder_depth=2,
    decoder_num_heads=4, norm_pix=False, sampler_dim=64, sampler_mlp=False, crop_area=(0.5, 1.0), cache_frames=True,
    workers=0, batch_size=16, base_lr=0.048, save_every=50,
)  # fmt: skip
ADAMAE = {
    "toy": replace(_SMALL, stride=2, frame_size=48, image_size=48, epochs=45, warmup_epochs=1.9),
    "laptop": replace(_SMALL, frame_size=96, image_size=64, epochs=640, warmup_epochs=32),
    "colab": replace(
        PAPER, frame_size=128, crop_area=(0.5, 1.0), image_size=112, workers=2, embed_dim=192, num_heads=3,
        decoder_embed_dim=96, decoder_num_heads=3, norm_pix=False, sampler_dim=96, sampler_mlp=False, epochs=400,
        batch_size=64, base_lr=6e-4, save_every=200,
    ),
    "light": replace(PAPER, sampler_dim=384, sampler_mlp=False),
    "paper": PAPER,
}  # fmt: skip
