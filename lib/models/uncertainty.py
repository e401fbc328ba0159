"""How uncertain SiamMAE is of what it predicts: five estimators with one method.

`estimator.predict(past, future, mask, gap) -> Prediction`, in the loss's target space. past, future: normalised frames,
float (B, 3, H, W). gap, float (B,): the time between them in frames at 30 fps; models that do not know it need none.
Only hidden patches are to be evaluated: what is predicted of visible ones was never trained. Shapes: `B` pairs, `H W`
pixels, `P` patch side, `N` patches, `K` visible ones, `D` encoder width.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat

import torch
from torch import Tensor, nn

from lib.errors import UserError
from lib.models.siammae import SiamMAE
from lib.models.variance_heads import DistributionSiamMAE, Prediction
from lib.tokens.masking import Mask, mask_from_noise
from lib.tokens.patches import IMAGENET_MEAN, IMAGENET_STD, check_size, patch_statistics, patchify

FRACTION = 2 / 3  # of the visible patches in each draw of VisibleSubsets, rounded, at least one patch


def mix(members: Iterable[Prediction], counts: Iterable[Tensor] | None = None) -> Prediction:
    """The mixture of several predictions, equally weighted, by the law of total variance.

    Its aleatoric part is the mean of the variances, its epistemic part the variance of the means (divided by their
    number; exactly 0 of identical members) plus the mean of the members' own. counts: for each member a bool (B, N),
    True where it counts; None: everywhere. A patch for which no member counts is NaN.
    """
    mean = aleatoric = within = between = total = torch.zeros(())
    # One member after the other (Welford's updates): many cost no more memory than one
    for member, counted in zip(members, counts if counts is not None else repeat(None)):  # noqa: B905
        weight = torch.ones_like(member.mean[..., :1]) if counted is None else counted.unsqueeze(-1).float()
        total = total.to(weight) + weight
        part = weight / total.clamp(min=1)
        step = member.mean - mean
        mean = mean + part * step
        between = between + weight * step * (member.mean - mean)
        aleatoric = aleatoric + part * (member.aleatoric - aleatoric)
        within = within + part * (member.epistemic - within)
    if mean.ndim == 0:
        raise UserError("nothing was predicted: passes, draws or models must be at least 1")
    mixture = Prediction(mean, aleatoric, within + between / total.clamp(min=1))
    return Prediction(*(torch.where(total > 0, values, torch.nan) for values in mixture))


def to_pixels(prediction: Prediction, future: Tensor, patch_size: int, norm_pix: bool = True) -> Prediction:
    """The prediction in RGB from 0 to 1, from the loss's target space.

    With `norm_pix` mean and contrast of each patch are those of the true `future`, which the model does not know; sigma
    is scaled by that contrast, too. It goes with the error, so it does most of any ranking of patches by sigma in these
    units: compare rankings in the target space.
    """
    colours = prediction.mean.shape[-1] // 3
    offset, scale = (torch.tensor(rgb, device=future.device).repeat(colours) for rgb in (IMAGENET_MEAN, IMAGENET_STD))
    if norm_pix:
        mean, std = patch_statistics(patchify(future, patch_size))
        offset, scale = mean * scale + offset, std * scale
    return Prediction(
        prediction.mean * scale + offset, prediction.aleatoric * scale.square(), prediction.epistemic * scale.square()
    )


# --- estimators ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SingleModel:
    """What one model says in one pass: GaussianSiamMAE an aleatoric variance, EvidentialSiamMAE both parts.

    A plain SiamMAE states no variance: 0, to be replaced by a constant fitted on held-out data.
    """

    model: SiamMAE

    def predict(self, past: Tensor, future: Tensor, mask: Mask, gap: Tensor | None = None) -> Prediction:
        """See the module's head."""
        with evaluating(self.model):
            return next(_passes(self.model, past, future, [mask], gap))


@dataclass(frozen=True)
class MCDropout:
    """Passes with the decoder's dropout at work (Gal and Ghahramani 2016, arXiv 1506.02142); the encoder runs once.

    The model must have been trained with that dropout. One without any has an epistemic variance of exactly 0.
    """

    model: SiamMAE
    passes: int = 16

    def predict(self, past: Tensor, future: Tensor, mask: Mask, gap: Tensor | None = None) -> Prediction:
        """See the module's head."""
        with evaluating(self.model):
            memory, latent = _past(self.model, past, future), self.model.encoder(future, mask.keep)
            for part in self.model.decoder.modules():
                part.training = isinstance(part, nn.Dropout)
            return mix(_decode(self.model, latent, memory, mask, gap) for _ in range(self.passes))


@dataclass(frozen=True)
class DeepEnsemble:
    """Models trained on the same data from other seeds (Lakshminarayanan et al. 2017, arXiv 1612.01474)."""

    models: Sequence[SiamMAE]

    def predict(self, past: Tensor, future: Tensor, mask: Mask, gap: Tensor | None = None) -> Prediction:
        """See the module's head."""
        patches = {(model.patch_size, *model.encoder.grid, model.norm_pix) for model in self.models}
        if len(patches) != 1:
            raise UserError(f"an ensemble needs models of one patch size, grid and target; these have {len(patches)}")
        return mix(SingleModel(model).predict(past, future, mask, gap) for model in self.models)


@dataclass(frozen=True)
class VisibleSubsets:
    """One model shown random parts of the visible patches: how much does the prediction hang on single clues?

    The mask's hidden patches are hidden in every draw: all draws count for them, and none sees a pixel that other
    estimators do not. The model sees fewer patches than it was trained on, which makes its mean a little worse than one
    pass with all. With one visible patch all draws are the same.
    """

    model: SiamMAE
    draws: int = 16

    def predict(self, past: Tensor, future: Tensor, mask: Mask, gap: Tensor | None = None) -> Prediction:
        """See the module's head."""
        visible = max(1, round(FRACTION * mask.keep.shape[1]))
        masks = [subset(mask, visible) for _ in range(self.draws)]
        with evaluating(self.model):
            return mix(_passes(self.model, past, future, masks, gap))


@dataclass(frozen=True)
class FreshMasks:
    """One model under new random masks: how much does a patch's prediction hang on which patches one happens to see?

    Each draw shows as many random patches as the given mask and counts where it hides. That is a map of the whole
    frame, independent of one mask, and not to be compared with estimators under the given mask: some draws show this
    patch's neighbours, which there were hidden. A patch that no draw hid (at ratio r with probability (1 - r)^draws) is
    NaN.
    """

    model: SiamMAE
    draws: int = 16

    def predict(self, past: Tensor, future: Tensor, mask: Mask, gap: Tensor | None = None) -> Prediction:
        """Of `mask` only the number of visible patches counts."""
        noises = (torch.rand(mask.hidden.shape, device=future.device) for _ in range(self.draws))
        masks = [mask_from_noise(noise, mask.keep.shape[1]) for noise in noises]
        with evaluating(self.model):
            return mix(_passes(self.model, past, future, masks, gap), [drawn.hidden for drawn in masks])


def subset(mask: Mask, visible: int) -> Mask:
    """A mask that shows `visible` random patches of those that `mask` shows, drawn for each sample apart."""
    noise = torch.rand(mask.hidden.shape, device=mask.hidden.device)
    return mask_from_noise(noise + mask.hidden, visible)  # noise is below 1: hidden patches come last


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No gradients, and the model in evaluation mode; each part's own mode is put back."""
    modes = [(part, part.training) for part in model.modules()]
    try:
        model.eval()
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


def _passes(
    model: SiamMAE, past: Tensor, future: Tensor, masks: Iterable[Mask], gap: Tensor | None
) -> Iterator[Prediction]:
    """One pass under each mask; the past is encoded once."""
    memory = _past(model, past, future)
    for mask in masks:
        yield _decode(model, model.encoder(future, mask.keep), memory, mask, gap)


def _past(model: SiamMAE, past: Tensor, future: Tensor) -> Tensor:
    """Tokens of the past (B, 1 + N, D), once both frames are checked."""
    for images in (past, future):
        check_size(images, model.patch_size, model.encoder.grid)
    return model.encoder(past)


def _decode(model: SiamMAE, latent: Tensor, memory: Tensor, mask: Mask, gap: Tensor | None) -> Prediction:
    if isinstance(model, DistributionSiamMAE):
        return model.read(latent, mask, memory, gap)
    mean = model.decoder(latent, mask.restore, memory).float()
    return Prediction(mean, torch.zeros_like(mean), torch.zeros_like(mean))
