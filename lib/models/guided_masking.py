"""Guided masking: the visible patches of the future frame are chosen by how uncertain each patch is.

Easy-first hides the certain patches: what is left to predict is easy. Hard-first hides the uncertain ones. A curriculum
goes from the one to the other over the training.

Patches are ranked within their frame, least uncertain 0, most uncertain 1. Ranks make one temperature fit every source
of scores and every stage of training. The visible ones are drawn without replacement in proportion to

    (1 - epsilon) * softmax(direction * rank / temperature) + epsilon / N

by Gumbel top-k. Direction +1 shows the uncertain (easy-first), -1 the certain (hard-first); at 0, as for an infinite
temperature or epsilon 1, all patches are equally likely: random masking. Epsilon keeps every patch in play.

Shapes: `B` pairs, `H W` pixels, `N` patches, `D` encoder width.
"""

import math

import torch
from torch import Tensor

from lib.errors import UserError, unknown
from lib.models.adaptive_sampler import gumbel_top_k
from lib.models.variance_heads import GaussianSiamMAE
from lib.tokens.masking import Mask, num_visible

ORDERS = {"easy-first": (1.0, 1.0), "hard-first": (-1.0, -1.0), "curriculum": (1.0, -1.0)}  # first, last direction


def relative_ranks(scores: Tensor) -> Tensor:
    """Ranks within each row from 0 (least) to 1 (greatest): (B, N) -> float (B, N)."""
    own, others = scores.unsqueeze(2), scores.unsqueeze(1)
    below, not_above = (compared.sum(dim=2) for compared in (others < own, others <= own))
    # Equal scores get their mean rank: all that stands still has the same true motion and must stay equally likely
    return (below + not_above - 1) / (2 * (scores.shape[1] - 1))


def visible_log_probs(scores: Tensor, direction: float, temperature: float, epsilon: float) -> Tensor:
    """Log-probability of each patch to be the first one shown, as at the module's head: (B, N) -> float (B, N)."""
    preferred = (direction / temperature * relative_ranks(scores)).log_softmax(dim=1)
    if epsilon == 0:
        return preferred
    if epsilon == 1:
        return torch.full_like(preferred, -math.log(scores.shape[1]))
    uniform = torch.full_like(preferred, math.log(epsilon / scores.shape[1]))
    return torch.logaddexp(preferred + math.log1p(-epsilon), uniform)


def guided_mask(
    scores: Tensor, mask_ratio: float, direction: float, temperature: float = 0.2, epsilon: float = 0.1
) -> Mask:
    """A mask by scores (B, N), as many patches visible as under random masking.

    At temperature 0.2 the highest rank is exp(5), about 150, times likelier than the lowest.
    """
    check_draw(temperature, epsilon)
    log_probs = visible_log_probs(scores.float(), direction, temperature, epsilon)
    return gumbel_top_k(log_probs, num_visible(scores.shape[1], mask_ratio))


def check_draw(temperature: float, epsilon: float) -> None:
    """The temperature must be positive (infinity is) and epsilon within 0..1."""
    if not temperature > 0:
        raise UserError(f"masking temperature {temperature} is not positive: use for example 0.2, or inf for random")
    if not 0 <= epsilon <= 1:
        raise UserError(f"masking epsilon {epsilon} is outside [0, 1]: use for example 0.1")


class GuidedSiamMAE(GaussianSiamMAE):
    """GaussianSiamMAE whose training masks are drawn by uncertainty; `predict` masks at random. Also logs `direction`.

    The scores are the model's own: a first look without gradients, on a random mask, whose predicted variance (mean
    over a patch's values, in the loss's target space) ranks the patches. It takes the past's tokens from the step
    itself, so it costs the few visible tokens' encoding and the decoder's forward pass. Or they come with the batch as
    "score", float (B, N), larger meaning harder: an oracle such as true motion.

    Args:
        order: "easy-first", "hard-first" or "curriculum" (from the first to the second, linearly).
        curriculum_steps: calls in training that the curriculum takes: steps times accumulation. The count is saved
            with the weights, so a resumed run goes on where it was.
        score: "variance", the model's own, or "batch".
        temperature, epsilon: see the module's head.
        gaussian: GaussianSiamMAE's arguments.
    """

    def __init__(
        self,
        order: str = "hard-first",
        curriculum_steps: int = 0,
        score: str = "variance",
        temperature: float = 0.2,
        epsilon: float = 0.1,
        **gaussian,
    ):
        super().__init__(**gaussian)
        if order not in ORDERS:
            raise unknown("order of masking", order, ORDERS)
        if score not in {"variance", "batch"}:
            raise unknown("masking score", score, {"variance", "batch"})
        if (order == "curriculum") != (curriculum_steps > 0):
            raise UserError(f"order {order!r} with curriculum_steps {curriculum_steps}: only a curriculum has steps")
        check_draw(temperature, epsilon)
        self.order, self.curriculum_steps, self.score = order, curriculum_steps, score
        self.temperature, self.epsilon = temperature, epsilon
        self.architecture |= {"order": order, "curriculum_steps": curriculum_steps, "score": score}
        self.architecture |= {"temperature": temperature, "epsilon": epsilon}
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """{"past", "future": uint8 (B, 3, H, W), "gap" (B,), where it is the score "score" (B, N)} -> (loss, logs)."""
        memory, future = self.encode_past(batch)
        gap, direction = batch.get("gap"), self.direction()
        scores = self.first_look(memory, future, gap) if self.score == "variance" else self._given(batch)
        mask = guided_mask(scores, self.mask_ratio, direction, self.temperature, self.epsilon)
        loss, logs = self.loss(memory, future, mask, gap)
        self.calls += self.training
        return loss, logs | {"direction": loss.new_tensor(direction)}

    def direction(self) -> float:
        """Where the curriculum stands: from 1, easy-first, to -1, hard-first; constant for these two themselves."""
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
            raise UserError(
                f'batch["score"] must be of shape {wanted}, but is {shown}: give it, or use score="variance"'
            )
        return scores
