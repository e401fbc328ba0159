"""A classifier of a frozen video ladder's memory: one hidden layer, as in the course report."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SUBSAMPLED = 128  # of the finer states one value in so many, as in the released code


class StateClassifier(nn.Module):
    """`model({"features": float (B, D), "label": int64 (B,)})` -> (loss, logs).

    norm: BatchNorm before the ReLU. dropout: behind it; the report's 0.3 lowered accuracy.
    """

    def __init__(self, width: int, num_classes: int, hidden: int = 2000, norm: bool = True, dropout: float = 0.0):
        super().__init__()
        self.architecture = {name: value for name, value in locals().items() if name not in {"self", "__class__"}}
        middle = nn.BatchNorm1d(hidden) if norm else nn.Identity()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden), middle, nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, num_classes)
        )

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """See the class."""
        loss = F.cross_entropy(self.layers(batch["features"]).float(), batch["label"])
        return loss, {"loss": loss.detach()}


def state_features(state: Sequence[Sequence[Tensor]]) -> dict[str, Tensor]:
    """Parts of a ladder's last memory as features (B, D), as reported: deepest states, a sample of all others, both."""
    *finer, deepest = (torch.cat([part.flatten(1) for part in states], dim=1) for states in state)
    finer = torch.cat(finer, dim=1)
    # at random, but always the same: where a map is 128 values wide or a part of that, every 128th is its left edge
    order = torch.randperm(finer.shape[1], generator=torch.Generator().manual_seed(0))
    chosen = order[: finer.shape[1] // SUBSAMPLED].sort().values.to(finer.device)
    features = {"deepest": deepest, "subsampled": finer[:, chosen]}
    return {**features, "both": torch.cat(list(features.values()), dim=1)}


def pooled_features(maps: Sequence[Sequence[Tensor]]) -> tuple[Tensor, Tensor]:
    """Of maps (B, C, h, w), a list for each of T frames: each channel's mean over places and frames, and how much it
    varies over the frames, averaged over places; (B, D) both, whatever happens where.
    """
    over_time = [torch.stack(parts) for parts in zip(*maps, strict=True)]  # (T, B, C, h, w) each
    mean, change = ([getattr(part, name)(dim=0).mean(dim=(2, 3)) for part in over_time] for name in ("mean", "var"))
    return torch.cat(mean, dim=1), torch.cat(change, dim=1)
