"""Guided masking: the visible patches of the future frame are chosen by how uncertain each patch is.

Patches are ranked within their frame, least uncertain 0, most uncertain 1: ranks make one temperature fit every source
of scores and every stage of training. The visible ones are drawn without replacement, by Gumbel top-k, in proportion to
(1 - EPSILON) * softmax(direction * rank / TEMPERATURE) + EPSILON / N. Shapes: `B` pairs, `H W` pixels, `N` patches, `D`
encoder width.
"""

import math

import torch
from torch import Tensor

from lib.errors import UserError, unknown
from lib.models.adaptive_sampler import gumbel_top_k
from lib.models.variance_heads import GaussianSiamMAE
from lib.tokens.masking import Mask, num_visible

# Direction 1 shows the uncertain and hides the certain (easy-first), -1 the other way round (hard-first); a curriculum
# goes from the one to the other over the training. At 0 all patches are equally likely.
ORDERS = {"easy-first": (1.0, 1.0), "hard-first": (-1.0, -1.0), "curriculum": (1.0, -1.0)}  # first, last direction
SCORES = {"variance", "batch"}
TEMPERATURE = 0.2  # the highest rank is exp(5), about 150, times likelier than the lowest
EPSILON = 0.1  # keeps every patch in play


def relative_ranks(scores: Tensor) -> Tensor:
    """Ranks within each row from 0 (least) to 1 (greatest): (B, N) -> float (B, N)."""
    own, others = scores.unsqueeze(2), scores.unsqueeze(1)
    below, not_above = (compared.sum(dim=2) for compared in (others < own, others <= own))
    # Equal scores get their mean rank: all that stands still has the same true motion and must stay equally likely
    return (below + not_above - 1) / (2 * (scores.shape[1] - 1))


def visible_log_probs(scores: Tensor, direction: float) -> Tensor:
    """Log-probability of each patch to be the first one shown, as at the module's head: (B, N) -> float (B, N)."""
    preferred = (direction / TEMPERATURE * relative_ranks(scores)).log_softmax(dim=1)
    uniform = torch.full_like(preferred, math.log(EPSILON / scores.shape[1]))
    return torch.logaddexp(preferred + math.log1p(-EPSILON), uniform)


def guided_mask(scores: Tensor, mask_ratio: float, direction: float) -> Mask:
    """A mask by scores (B, N), as many patches visible as under random masking."""
    return gumbel_top_k(visible_log_probs(scores.float(), direction), num_visible(scores.shape[1], mask_ratio))


class GuidedSiamMAE(GaussianSiamMAE):
    """GaussianSiamMAE whose training masks are drawn by uncertainty; `predict` masks at random. Also logs `direction`.

    The scores are the model's own: a first look without gradients, on a random mask, whose predicted variance (mean
    over a patch's values, in the loss's target space) ranks the patches. It takes the past's tokens from the step
    itself, so it costs the few visible tokens' encoding and the decoder's forward pass. Or they come with the batch as
    "score", float (B, N), larger meaning harder: an oracle such as true motion.

    Args:
        order: a name in ORDERS.
        curriculum_steps: calls in training that the curriculum takes, linearly: steps times accumulation. The count is
            saved with the weights, so a resumed run goes on where it was.
        score: "variance", the model's own, or "batch".
        gaussian: GaussianSiamMAE's arguments.
    """

    def __init__(self, order: str = "hard-first", curriculum_steps: int = 0, score: str = "variance", **gaussian):
        super().__init__(**gaussian)
        if order not in ORDERS:
            raise unknown("order of masking", order, ORDERS)
        if score not in SCORES:
            raise unknown("masking score", score, SCORES)
        if (order == "curriculum") != (curriculum_steps > 0):
            raise UserError(f"order {order!r} with curriculum_steps {curriculum_steps}: only a curriculum has steps")
        self.order, self.curriculum_steps, self.score = order, curriculum_steps, score
        self.architecture |= {"order": order, "curriculum_steps": curriculum_steps, "score": score}
        self.architecture |= {"temperature": TEMPERATURE, "epsilon": EPSILON}
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """{"past", "future": uint8 (B, 3, H, W), "gap" (B,), where it is the score "score" (B, N)} -> (loss, logs)."""
        memory, future = self.encode_past(batch)
        gap, direction = batch.get("gap"), self.direction()
        scores = self.first_look(memory, future, gap) if self.score == "variance" else self._given(batch)
        loss, logs = self.loss(memory, future, guided_mask(scores, self.mask_ratio, direction), gap)
        self.calls += self.training
        return loss, logs | {"direction": loss.new_tensor(direction)}

    def direction(self) -> float:
        """Where the curriculum stands."""
        first, last = ORDERS[self.order]
        return first + (last - first) * min(1.0, self.calls.item() / max(1, self.curriculum_steps))

    @torch.no_grad()
    def first_look(self, memory: Tensor, future: Tensor, gap: Tensor | None) -> Tensor:
        """Scores (B, N) of past tokens (B, 1 + N, D), future frames (B, 3, H, W) and gaps (B,)."""
        mask = self.masking(self.encoder.patch_embed(future), self.grid)
        scores = self.read(self.encoder(future, mask.keep), mask, memory, gap).total.mean(dim=-1)
        # Of the patches that this look saw nothing was predicted: they get the median
        typical = scores.masked_fill(~mask.hidden, torch.nan).nanmedian(dim=1, keepdim=True).values
        return torch.where(mask.hidden, scores, typical)

    def _given(self, batch: dict[str, Tensor]) -> Tensor:
        wanted, scores = (len(batch["future"]), math.prod(self.grid)), batch.get("score")
        if scores is None or tuple(scores.shape) != wanted:
            shown = "none" if scores is None else f"shape {tuple(scores.shape)}"
            raise UserError(f'batch["score"] must be of shape {wanted}, but is {shown}: give it, or use "variance"')
        return scores
