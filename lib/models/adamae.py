"""AdaMAE: a video MAE that learns which cubes to see (Bandara et al. 2023, arXiv 2211.09120)."""

import torch
from torch import Tensor

from lib.models.adaptive_sampler import AdaptiveMasking
from lib.models.video_mae import VideoMAE


class AdaMAE(VideoMAE):
    """A video MAE whose visible cubes an AdaptiveSampler draws; see AdaptiveMasking and VideoMAE for the arguments.

    With variant "released_code" and positions "flattened" the parts are the released code's.
    """

    def __init__(
        self, variant: str = "ours", sampler_depth: int = 1, sampler_dim: int | None = None,
        sampling_weight: float = 1e-4, mask_ratio: float = 0.95, sampler_mlp: bool = True, **video_mae,
    ):  # fmt: skip
        masking = AdaptiveMasking(mask_ratio, variant, sampler_depth, sampler_dim, sampling_weight, sampler_mlp)
        super().__init__(masking=masking, **video_mae)

    @torch.no_grad()
    def probabilities(self, videos: Tensor) -> Tensor:
        """Probability of each cube: normalised float (B, 3, T, H, W) -> float32 (B, s, h, w)."""
        return self.masking.log_probs(self.encoder.patch_embed(videos)).exp().unflatten(1, self.grid)
