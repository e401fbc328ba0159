"""SiamMAE that predicts a distribution of each hidden pixel, not a value alone.

The decoder's head gets a light neighbour: besides the mean of each value a few numbers for each pixel, shared by its
three colours. Here they are a Gaussian's log-variance; lib.models.evidential has the other reading. Shapes: `B` pairs,
`H W` pixels, `P` patch side, `N` patches, `K` visible ones, `Q` = P*P*3 values of a patch (row, column, channel), `D`
encoder width, `E` decoder width. Values of a patch by pixel are (B, N, P*P, 3), maps (B, N, P*P, 1).
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.errors import UserError
from lib.models.siammae import CrossSelfBlock, SiamMAE
from lib.models.vit import initialize
from lib.tokens.masking import Mask, masked_mean
from lib.tokens.patches import check_size, normalize_images, target_patches

MIDDLE_GAP = 16.0  # the logarithm of the gap is taken relative to this, between the paper's 4 and 48


class Prediction(NamedTuple):
    """What is predicted for every patch, and how far it may be off, each float32 (B, N, Q).

    aleatoric, epistemic: variances; what the model holds to be noise, and what comes of its not knowing better.
    """

    mean: Tensor
    aleatoric: Tensor
    epistemic: Tensor

    @property
    def total(self) -> Tensor:
        """By the law of total variance the sum of the two."""
        return self.aleatoric + self.epistemic


class VarianceHead(nn.Module):
    """What is predicted of each pixel besides its mean: tokens (B, N, E), gap float (B,) -> (B, N, outputs).

    One hidden layer, for the log-variance is no linear function of what the mean is linear in. The gap, in frames at 30
    fps, enters there by its logarithm, so that it may count more for some patches than for others. The last Linear
    starts at zero: at first the head says the same of every pixel and sends no gradient back, and training starts as
    plain SiamMAE's.
    """

    def __init__(self, embed_dim: int, outputs: int, knows_gap: bool):
        super().__init__()
        self.hidden = nn.Linear(embed_dim, embed_dim)
        self.gap = nn.Linear(1, embed_dim, bias=False) if knows_gap else None
        self.maps = nn.Linear(embed_dim, outputs)
        initialize(self)
        nn.init.zeros_(self.maps.weight)

    def forward(self, tokens: Tensor, gap: Tensor | None) -> Tensor:
        """A head that does not know the gap ignores it."""
        hidden = self.hidden(tokens)
        if self.gap is not None:
            if gap is None or len(gap) != len(tokens):
                raise UserError("this model's uncertainty depends on the gap: give it for each pair, in frames, 30 fps")
            hidden = hidden + self.gap((gap.to(hidden) / MIDDLE_GAP).log()[:, None, None])
        return self.maps(F.gelu(hidden))


class DropoutBlock(CrossSelfBlock):
    """The decoder's block with dropout behind each of its three parts; its weights are named as the plain block's."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, rate: float):
        super().__init__(dim, num_heads, mlp_ratio)
        self.drop = nn.Dropout(rate)

    def forward(self, tokens: Tensor, memory: Tensor) -> Tensor:
        """As CrossSelfBlock."""
        tokens = tokens + self.drop(self.cross_attn(self.norm1(tokens), self.norm_memory(memory)))
        tokens = tokens + self.drop(self.attn(self.norm2(tokens)))
        return tokens + self.drop(self.mlp(self.norm3(tokens)))


class DistributionSiamMAE(SiamMAE):
    """What SiamMAEs with a distribution for an output have in common.

    `model(batch)` takes {"past", "future": uint8 (B, 3, H, W), "gap": float (B,)}, the gap in frames at 30 fps.
    `predict` gives the mean, as plain SiamMAE's; lib.models.uncertainty gives the whole. A subclass has `maps`, the
    number of maps besides the mean; `value_losses(mean, maps, target)`, the loss of each value (B, N, P*P, 3) and what
    to log, broadcastable to that; `variances(maps)`, aleatoric and epistemic, as maps.

    Args:
        knows_gap: whether the maps depend on the gap, which then must be given.
        detach_input: keep the maps' gradient from the decoder's blocks.
        dropout: rate in the decoder's blocks, for Monte-Carlo dropout; the encoder has none.
        siammae: SiamMAE's arguments.
    """

    def __init__(self, knows_gap: bool = True, detach_input: bool = False, dropout: float = 0.0, **siammae):
        super().__init__(**siammae)
        if not 0 <= dropout < 1:
            raise UserError(f"dropout {dropout} is outside [0, 1): use for example 0.1")
        self.architecture |= {"knows_gap": knows_gap, "detach_input": detach_input, "dropout": dropout}
        self.detach_input = detach_input
        names = ("decoder_embed_dim", "decoder_num_heads", "mlp_ratio")
        width, heads, mlp_ratio = (self.architecture[name] for name in names)
        self.variance_head = VarianceHead(width, self.maps * self.patch_size**2, knows_gap)
        if dropout:
            blocks = nn.ModuleList(DropoutBlock(width, heads, mlp_ratio, dropout) for _ in self.decoder.blocks)
            blocks.load_state_dict(self.decoder.blocks.state_dict())  # a seed gives the weights that it gives SiamMAE
            self.decoder.blocks = blocks

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """A batch as above -> (loss, logs)."""
        memory, future = self.encode_past(batch)
        mask = self.masking(self.encoder.patch_embed(future), self.grid)
        return self.loss(memory, future, mask, batch.get("gap"))

    def encode_past(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Past tokens (B, 1 + N, D) and normalised future frames (B, 3, H, W) of a batch."""
        past, future = normalize_images(batch["past"]), normalize_images(batch["future"])
        for images in (past, future):
            check_size(images, self.patch_size, self.encoder.grid)
        return self.encoder(past), future

    def loss(self, memory: Tensor, future: Tensor, mask: Mask, gap: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and logs under a mask: loss, mse (plain SiamMAE's loss), what `value_losses` logs, and the masking's."""
        mean, maps = self.distribute(self.encoder(future, mask.keep), mask, memory, gap)
        target = target_patches(future, self.patch_size, self.norm_pix).unflatten(-1, (-1, 3))  # (B, N, P*P, 3)
        values, logged = self.value_losses(mean, maps, target)
        errors = (mean.detach() - target).square().mean(dim=(2, 3))  # (B, N)
        loss = masked_mean(values.mean(dim=(2, 3)), mask.hidden)
        logged = {name: masked_mean(value.mean(dim=(2, 3)), mask.hidden) for name, value in logged.items()}
        total, logs = self.masking.objective(loss, errors, mask)
        return total, {"loss": total.detach(), "mse": masked_mean(errors, mask.hidden), **logged} | logs

    def distribute(
        self, latent: Tensor, mask: Mask, memory: Tensor, gap: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Mean and maps, float32, of visible future's tokens (B, 1 + K, D), the past's (B, 1 + N, D) and gaps (B,)."""
        tokens = self.decoder.tokens(latent, mask.restore, memory)
        mean = self.decoder.head(tokens).float().unflatten(-1, (-1, 3))  # (B, N, Q) -> (B, N, P*P, 3)
        maps = self.variance_head(tokens.detach() if self.detach_input else tokens, gap).float()
        return mean, tuple(values.unsqueeze(-1) for values in maps.chunk(self.maps, dim=-1))

    def read(self, latent: Tensor, mask: Mask, memory: Tensor, gap: Tensor | None = None) -> Prediction:
        """What `distribute` gives as a Prediction."""
        mean, maps = self.distribute(latent, mask, memory, gap)
        variances = (values.expand_as(mean).flatten(2) for values in self.variances(maps))
        return Prediction(mean.flatten(2), *variances)


# The log-variance is BOUND * tanh(raw / BOUND). Unlike a clamp it keeps a gradient everywhere, so no pixel is stuck at
# the end, and it leaves zero at zero. Sigma is thus between 0.018 and 55 standard deviations of the target's patch.
BOUND = 8.0


def bounded(raw: Tensor) -> Tensor:
    """A log-variance between -BOUND and BOUND, of any shape."""
    return BOUND * torch.tanh(raw / BOUND)


def beta_nll(mean: Tensor, log_variance: Tensor, target: Tensor, beta: float) -> Tensor:
    """Twice the beta-NLL of each value, without its constant (Seitzer et al. 2022); shapes broadcast.

    stop(sigma^(2 beta)) * (error^2 / sigma^2 + log sigma^2). At beta 0 it is the plain NLL, whose mean learns least
    where sigma is large, that is where it errs most: the pit that beta leads around.
    """
    weight = (beta * log_variance.detach()).exp()
    # Twice, so that at sigma 1 the mean's gradient is the mean squared error's: learning rates carry over
    return weight * ((mean - target).square() * (-log_variance).exp() + log_variance)


class GaussianSiamMAE(DistributionSiamMAE):
    """SiamMAE with a Gaussian for each value, its variance shared by a pixel's three colours.

    Logged besides: nll (the Gaussian's, in nats a value, constant included) and log_variance, over hidden patches. All
    variance is aleatoric here: one model does not know what it does not know.

    There is no warm-up with the mean squared error: the head starts at sigma 1, which is right for a normalised target
    that is predicted as 0. `beta` is 0.5 in the paper (Seitzer et al. 2022, arXiv 2203.09168); 0 is the plain NLL, 1
    trains the mean as the mean squared error does. `distribution`: arguments of DistributionSiamMAE.
    """

    maps = 1

    def __init__(self, beta: float = 0.5, **distribution):
        super().__init__(**distribution)
        if not 0 <= beta <= 1:
            raise UserError(f"beta {beta} is outside [0, 1]: use for example 0.5")
        self.architecture["beta"] = self.beta = beta

    def value_losses(self, mean: Tensor, maps: tuple[Tensor, ...], target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The beta-NLL; logs nll and log_variance."""
        log_variance = bounded(maps[0])
        loss = beta_nll(mean, log_variance, target, self.beta)
        log_variance = log_variance.detach()
        nll = 0.5 * (loss.detach() * (-self.beta * log_variance).exp() + math.log(2 * math.pi))
        return loss, {"nll": nll, "log_variance": log_variance}

    def variances(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """The variance, and none that is epistemic."""
        variance = bounded(maps[0]).exp()
        return variance, torch.zeros_like(variance)
