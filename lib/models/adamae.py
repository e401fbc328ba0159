"""AdaMAE: a video MAE that learns which cubes to see (Bandara et al. 2023, arXiv 2211.09120).

The video MAE is lib.models.video_mae's; what draws the visible cubes, and learns to, is lib.models.adaptive_sampler's.

Shapes: `B` batch, `T` frames, `H W` pixels, `N` cubes, `D` token width, grid (s, h, w) with N = s*h*w.
"""

import torch
from torch import Tensor

from lib.models.adaptive_sampler import AdaptiveSampler, SampledMask
from lib.models.video_mae import VideoMAE
from lib.tokens.masking import masked_mean


class AdaMAE(VideoMAE):
    """A video MAE whose visible cubes an AdaptiveSampler draws.

    `model(batch)` takes {"video": uint8 (B, 3, T, H, W)} and returns the loss, reconstruction + weight * sampling,
    and the logs of AdaptiveSampler.add_loss.

    Args:
        variant, sampler_depth, sampler_dim, sampling_weight, sampler_mlp: see AdaptiveSampler.
        mask_ratio: 0.95 in the paper.
        video_mae: VideoMAE's other arguments, save `masking`. With variant "released_code" and positions "flattened"
            the parts are the released code's.
    """

    def __init__(
        self,
        variant: str = "ours",
        sampler_depth: int = 1,
        sampler_dim: int | None = None,
        sampling_weight: float = 1e-4,
        mask_ratio: float = 0.95,
        sampler_mlp: bool = True,
        **video_mae,
    ):
        super().__init__(masking="random", mask_ratio=mask_ratio, **video_mae)
        chosen = {"variant": variant, "sampler_depth": sampler_depth, "sampler_dim": sampler_dim}
        self.architecture |= {"masking": "adaptive", "sampling_weight": sampling_weight, **chosen}
        if not sampler_mlp:  # named only where it differs: checkpoints from before it was a choice stay valid
            self.architecture["sampler_mlp"] = False
        width = self.architecture["embed_dim"]
        self.masking = AdaptiveSampler(
            width, self.num_cubes, mask_ratio, variant, sampler_depth, sampler_dim, sampling_weight, sampler_mlp
        )

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """{"video": uint8 (B, 3, T, H, W)} -> (loss, logs)."""
        errors, mask = self.errors(batch["video"])
        return self.masking.add_loss(masked_mean(errors, mask.hidden), errors, mask)

    def draw_mask(self, patches: Tensor) -> SampledMask:
        """A mask drawn for videos whose cubes are embedded, without positions, as `patches` (B, N, D)."""
        return self.masking(self._seen(patches), self.grid)

    @torch.no_grad()
    def probabilities(self, videos: Tensor) -> Tensor:
        """Probability of each cube on its grid: normalised float (B, 3, T, H, W) -> float32 (B, s, h, w)."""
        return self.masking.log_probs(self._seen(self.patches(videos))).exp().unflatten(1, self.grid)

    def _seen(self, patches: Tensor) -> Tensor:
        return patches if self.masking.objective.own_positions else patches + self.encoder.pos_embed
