"""What draws AdaMAE's visible tokens and how it learns (Bandara et al. 2023, arXiv 2211.09120, sections 3.1 and 3.2).

A small network gives every token a probability; visible tokens are drawn from it without replacement. Drawing has no
gradient, so the network learns from the reconstruction errors through an objective of its own. What the text, its
Algorithm 2 and the released code say of that objective differs; OBJECTIVES names four readings. Shapes: `B` batch, `N`
tokens, `K` visible tokens, `D` token width. log_probs (B, N) are natural logarithms in float32.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from lib.errors import unknown
from lib.models.vit import check_heads, initialize, plain_blocks
from lib.tokens.masking import Grid, Mask, Masking, mask_from_noise, random_mask

HEADS = 8  # of the sampler's attention


class SampledMask(NamedTuple):
    """A Mask that was drawn from a distribution."""

    keep: Tensor  # in the order of drawing
    restore: Tensor
    hidden: Tensor
    log_probs: Tensor  # (B, N), what it was drawn from


def gumbel_top_k(log_probs: Tensor, visible: int) -> Mask:
    """Draw `visible` tokens of each sample without replacement, in proportion to exp(log_probs): (B, N) -> Mask.

    Adding Gumbel noise to log-probabilities and taking the largest has the law of drawing one after the other, order
    included (as torch.multinomial without replacement), and never meets a probability that underflows to 0.
    """
    exponential = torch.empty_like(log_probs).exponential_()  # minus its logarithm is Gumbel noise
    return mask_from_noise(exponential.log() - log_probs.detach(), visible)


def ordered_log_prob(log_probs: Tensor, mask: Mask) -> Tensor:
    """Log-probability of drawing mask.keep in just this order without replacement: (B, N) -> (B,).

    The sum over draws of log p(token) - log(mass not drawn before), the mass summed in logarithms.
    """
    drawn_first = log_probs.gather(1, mask.restore.argsort(dim=1))
    left = drawn_first.flip(1).logcumsumexp(dim=1).flip(1)
    return (drawn_first - left)[:, : mask.keep.shape[1]].sum(dim=1)


# --- objectives: (log_probs (B, N), mask, detached errors (B, N)) -> loss of each sample (B,) ---------------


def masked_log_likelihood_sum(log_probs: Tensor, mask: Mask, errors: Tensor) -> Tensor:
    """Minus the sum over hidden tokens of log P times the token's error: Eq. 5 with the text's log P.

    A step of descent moves a hidden token's logit by its error minus P times the sum of the hidden errors, a visible
    one's by the latter part alone. So hard hidden tokens grow likelier to be *seen*, until each one's probability is
    its part of the errors met while hidden. This is no policy gradient: no log-probability of what was drawn occurs.
    """
    return -(log_probs * errors * mask.hidden).sum(dim=1)


def masked_log_likelihood_mean(log_probs: Tensor, mask: Mask, errors: Tensor) -> Tensor:
    """The mean instead of the sum, as the released code."""
    return masked_log_likelihood_sum(log_probs, mask, errors) / mask.hidden.sum(dim=1)


def error_cross_entropy(log_probs: Tensor, mask: Mask, errors: Tensor) -> Tensor:
    """Cross-entropy of P with the hidden errors divided by their sum, in nats; hard tokens grow likelier to be seen."""
    hidden = errors * mask.hidden
    target = hidden / hidden.sum(dim=1, keepdim=True).clamp(min=torch.finfo(hidden.dtype).tiny)
    return -(target * log_probs).sum(dim=1)


def policy_gradient(log_probs: Tensor, mask: Mask, errors: Tensor) -> Tensor:
    """REINFORCE (Williams 1992): minus log-probability of the draw times (reward - baseline).

    The reward is what section 3.2 calls the return, a clip's mean error over its hidden tokens, to be maximised; the
    baseline is the batch's mean reward, so a batch of one clip teaches nothing. Draws that left more error than others
    grow likelier: of one clip, those that hide its hard tokens, the opposite of the other objectives and of what the
    paper shows. Between clips the baseline cannot tell a good draw from a hard clip.
    """
    reward = (errors * mask.hidden).sum(dim=1) / mask.hidden.sum(dim=1)
    return -(reward - reward.mean()) * ordered_log_prob(log_probs, mask)


@dataclass(frozen=True)
class SamplingObjective:
    """How the sampler sees and learns."""

    loss: Callable[[Tensor, Mask, Tensor], Tensor]
    detach_input: bool = True  # the sampler's gradient stops at its input
    own_positions: bool = False  # it learns a position table of its own, with the released block; else the encoder's
    uniform_start: bool = False  # the last Linear starts at zero: all tokens equally likely; else as MAE's matrices


# `paper`: Eq. 5 and Algorithm 2, with the logarithm that the text adds, positions before sampling, and the MAE shielded
# from the sampling loss. `released_code`: the mean; the sampler's input is not detached, so the loss trains the patch
# embedding, too. `reinforce`: the textbook's, with the paper's reward, starting as `ours`.
#
# `ours` keeps the direction of Eq. 5 and mends its scale. Errors are divided by their sum in the clip, which makes the
# loss a cross-entropy: its target is a distribution, its least value that target's entropy, its start about log N. So
# no clip outweighs another because its contrast was normalised badly, and the weight does not depend on N, on the
# ratio or on how far the errors have fallen. And training starts from random masking: Xavier weights in the last Linear
# give small samplers a preference before any evidence (128 wide, 512 tokens of noise: about 70 effective ones).
OBJECTIVES = {
    "paper": SamplingObjective(masked_log_likelihood_sum),
    "released_code": SamplingObjective(masked_log_likelihood_mean, detach_input=False, own_positions=True),
    "ours": SamplingObjective(error_cross_entropy, uniform_start=True),
    "reinforce": SamplingObjective(policy_gradient, uniform_start=True),
}


@dataclass(frozen=True)
class AdaptiveMasking(Masking):
    """AdaMAE's masking (section 3.1, A.2): the model to which it is given holds an AdaptiveSampler of these settings.

    Apart from the variant the defaults are the paper's. depth: attention blocks; 0 is A.2's MLP, two Linears with
    nothing between, as written there. width: of the blocks; None is D. Table 1f also has D/2, for which a Linear leads
    from D to it. mlp: whether the blocks have one, as the released code's; False is Eq. 2 as written, attention then a
    Linear.
    """

    mask_ratio: float = 0.95
    variant: str = "ours"  # a name in OBJECTIVES
    depth: int = 1
    width: int | None = None
    weight: float = 1e-4  # of the sampling loss
    mlp: bool = True

    def __post_init__(self):
        if self.variant not in OBJECTIVES:
            raise unknown("sampling variant", self.variant, OBJECTIVES)

    def prepare(self, positions: Tensor, grid: Grid) -> "AdaptiveSampler":
        """A new sampler."""
        return AdaptiveSampler(self, positions)


class AdaptiveSampler(nn.Module):
    """The masking that is learned: attention blocks, a Linear to one number a token, a softmax over the tokens."""

    def __init__(self, settings: AdaptiveMasking, positions: Tensor):
        super().__init__()
        num_tokens, embed_dim = positions.shape
        width = settings.width or embed_dim
        self.variant, self.weight = OBJECTIVES[settings.variant], settings.weight
        self.visible = random_mask(1, num_tokens, settings.mask_ratio).keep.shape[1]  # as many as random masking shows
        if self.variant.own_positions:
            self.positions = nn.Parameter(torch.zeros(1, num_tokens, embed_dim))  # decays, as in the release
        else:
            self.register_buffer("positions", positions.clone(), persistent=False)
        self.embed = nn.Identity() if settings.depth and width == embed_dim else nn.Linear(embed_dim, width)
        if self.variant.own_positions:
            blocks = [released_block(width, HEADS) for _ in range(settings.depth)]
        else:
            blocks = plain_blocks(width, settings.depth, HEADS)
        self.blocks = nn.Sequential(*(blocks if settings.mlp else map(AttentionBlock, blocks)))
        self.head = nn.Linear(width, 1)
        initialize(self)
        if self.variant.uniform_start:
            nn.init.zeros_(self.head.weight)

    def forward(self, tokens: Tensor, grid: Grid) -> SampledMask:
        """Draw a mask for each sample of embedded patches without positions (B, N, D)."""
        log_probs = self.log_probs(tokens)
        return SampledMask(*gumbel_top_k(log_probs, self.visible), log_probs)

    def log_probs(self, tokens: Tensor) -> Tensor:
        """Log-probability of each token: (B, N, D) -> float32 (B, N)."""
        if self.variant.detach_input:
            tokens = tokens.detach()
        logits = self.head(self.blocks(self.embed(tokens + self.positions))).squeeze(-1)
        return logits.float().log_softmax(dim=-1)

    def objective(self, loss: Tensor, errors: Tensor, mask: SampledMask) -> tuple[Tensor, dict[str, Tensor]]:
        """The reconstruction's loss plus the weighted sampling loss, and the logs of both and of the distribution."""
        sampling = self.variant.loss(mask.log_probs, mask, errors.detach()).mean()
        total = loss + self.weight * sampling
        logs = {"loss": total.detach(), "reconstruction": loss.detach(), "sampling": sampling.detach()}
        return total, logs | distribution_logs(mask.log_probs, self.visible)


class AttentionBlock(nn.Module):
    """The first half of a pre-norm block."""

    def __init__(self, block: Block):
        super().__init__()
        self.norm1, self.attn = block.norm1, block.attn

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, D) plus what they attend to."""
        return tokens + self.attn(self.norm1(tokens))


def released_block(width: int, num_heads: int) -> Block:
    """The released sampler's: no bias on q, k and v, dropout 0.1 behind attention and MLP, epsilon 1e-5."""
    check_heads(width, num_heads)
    block = Block(width, num_heads, qkv_bias=False, proj_drop=0.1, norm_layer=partial(nn.LayerNorm, eps=1e-5))
    block.mlp.drop1 = nn.Identity()  # timm drops within the MLP, too
    return block


@torch.no_grad()
def distribution_logs(log_probs: Tensor, visible: int) -> dict[str, Tensor]:
    """How spread the distributions (B, N) are, each a mean over the batch."""
    entropy = -(log_probs.exp() * log_probs).sum(dim=1)
    logs = {
        "entropy": entropy,  # nats
        "entropy_share": entropy / math.log(log_probs.shape[1]),
        "max_probability": log_probs.amax(dim=1).exp(),
        "effective_tokens": entropy.exp(),
        "collapsed": (entropy.exp() < visible).float(),  # fewer effective tokens than must be drawn
    }
    return {name: value.mean() for name, value in logs.items()}


def collapsed(logs: dict[str, Tensor]) -> bool:
    """Whether in over half of the samples fewer tokens are effectively likely than drawn, so that draws hardly vary."""
    return bool(logs["collapsed"] > 0.5)
