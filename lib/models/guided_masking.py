"""Smart masking: the visible patches of the future frame are chosen by how uncertain each patch is.

Easy-first hides the certain patches first: what is left to predict is easy. Hard-first hides the uncertain ones first.
A curriculum goes from the one to the other over the training. (AdaMAE's learned choice is lib.models.adamae's, open to
SiamMAE as masking="ours".)

Patches are ranked within their frame, least uncertain 0, most uncertain 1. Ranks make one temperature fit every source
of scores and every stage of training. The visible ones are drawn without replacement in proportion to

    (1 - epsilon) * softmax(direction * rank / temperature) + epsilon / N

by Gumbel top-k. Direction +1 shows the uncertain (easy-first), -1 the certain (hard-first); at 0, as for an infinite
temperature or epsilon 1, all patches are equally likely: random masking. Epsilon keeps every patch in play.

Shapes: `B` pairs, `H W` pixels, `N` patches, `K` visible patches, `D` encoder width, grid (1, h, w).
"""

import math

import torch
from torch import Tensor

from lib.errors import UserError, unknown
from lib.models.adaptive_sampler import gumbel_top_k
from lib.models.variance_heads import GaussianSiamMAE
from lib.tokens.masking import Grid, Mask, num_visible

DIRECTIONS = {"easy-first": (1.0, 1.0), "hard-first": (-1.0, -1.0), "curriculum": (1.0, -1.0)}  # first, last step


def relative_ranks(scores: Tensor) -> Tensor:
    """Ranks within each row from 0 (least) to 1 (greatest); equal scores share their mean rank: (B, N) -> float (B, N).

    Ties matter: all that stands still has the same true motion, and its patches must stay equally likely.
    """
    ours, others = scores.unsqueeze(2), scores.unsqueeze(1)
    below, not_above = ((compared).sum(dim=2) for compared in (others < ours, others <= ours))
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


def smart_masking(
    scores: Tensor, grid: Grid, mask_ratio: float, direction: float, temperature: float = 0.2, epsilon: float = 0.1
) -> Mask:
    """A strategy of lib.tokens.masking's form whose tokens are scores: float (B, N, 1) -> Mask.

    As many are visible as under random masking. At temperature 0.2 the highest rank is exp(5), about 150, times
    likelier than the lowest. UserError for a ratio that leaves nothing visible, a temperature that is not positive and
    an epsilon outside 0..1.
    """
    check_draw(temperature, epsilon)
    log_probs = visible_log_probs(scores.squeeze(-1).float(), direction, temperature, epsilon)
    return gumbel_top_k(log_probs, num_visible(scores.shape[1], mask_ratio))


def check_draw(temperature: float, epsilon: float) -> None:
    """UserError unless the temperature is positive (infinity is) and epsilon within 0..1."""
    if not temperature > 0:
        raise UserError(f"masking temperature {temperature} is not positive: use for example 0.2, or inf for random")
    if not 0 <= epsilon <= 1:
        raise UserError(f"masking epsilon {epsilon} is outside [0, 1]: use for example 0.1")


class SmartSiamMAE(GaussianSiamMAE):
    """GaussianSiamMAE whose training masks are drawn by uncertainty. Asked for predictions it masks at random.

    The scores come from the model itself: a first look without gradients, on a random mask, whose predicted variance
    (mean over a patch's values, in the loss's target space, as the loss weighs them) ranks the patches. It takes the
    past's tokens from the step itself, so it costs the few visible tokens' encoding and the decoder's forward pass.
    A running map for each clip would cost less, but a batch names neither clip, nor frames, nor crop, and under random
    crops the same place of a map is another place of the scene. A slow copy of the weights (EMA) would look with about
    the same eyes and need twice the memory. Patches visible in the first look, of which nothing was predicted, get the
    median score.

    Or they come with the batch as "score", float (B, N), larger meaning harder: an oracle such as true motion.

    `model(batch)` and the logs are GaussianSiamMAE's, and `direction`.

    Args:
        masking: "easy-first", "hard-first" or "curriculum" (from the first to the second, linearly).
        curriculum_steps: calls in training that the curriculum takes: steps times accumulation. The count is saved
            with the weights, so a resumed run goes on where it was.
        score: "variance", the model's own, or "batch".
        temperature, epsilon: see smart_masking.
        gaussian: GaussianSiamMAE's arguments.

    Raises UserError for unknown names, impossible numbers, and a batch without the scores that it should bring.
    """

    def __init__(
        self,
        masking: str = "hard-first",
        curriculum_steps: int = 0,
        score: str = "variance",
        temperature: float = 0.2,
        epsilon: float = 0.1,
        **gaussian,
    ):
        super().__init__(**gaussian)
        if masking not in DIRECTIONS:
            raise unknown("smart masking", masking, DIRECTIONS)
        if score not in {"variance", "batch"}:
            raise unknown("masking score", score, {"variance", "batch"})
        if (masking == "curriculum") != (curriculum_steps > 0):
            raise UserError(
                f"masking {masking!r} with curriculum_steps {curriculum_steps}: only a curriculum has steps"
            )
        check_draw(temperature, epsilon)
        self.masking, self.curriculum_steps, self.source = masking, curriculum_steps, score
        self.temperature, self.epsilon = temperature, epsilon
        self.architecture |= {"masking": masking, "curriculum_steps": curriculum_steps, "score": score}
        self.architecture |= {"temperature": temperature, "epsilon": epsilon}
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """{"past", "future": uint8 (B, 3, H, W), and where it is asked for "score" (B, N)} -> (loss, logs)."""
        direction = self.direction()
        loss, logs = super().forward(batch)
        self.calls += self.training
        return loss, logs | {"direction": loss.new_tensor(direction)}

    def direction(self) -> float:
        """Where the curriculum stands: from 1, easy-first, to -1, hard-first; constant for these two themselves."""
        first, last = DIRECTIONS[self.masking]
        return first + (last - first) * min(1.0, self.calls.item() / max(1, self.curriculum_steps))

    def choose_mask(self, batch: dict[str, Tensor], memory: Tensor, future: Tensor) -> Mask:
        """The mask of a training step, drawn by the scores. memory (B, 1 + N, D), future float (B, 3, H, W)."""
        scores = self.first_look(memory, future, batch.get("gap")) if self.source == "variance" else self._given(batch)
        grid = (1, *self.encoder.grid)
        return smart_masking(
            scores.unsqueeze(-1), grid, self.mask_ratio, self.direction(), self.temperature, self.epsilon
        )

    @torch.no_grad()
    def first_look(self, memory: Tensor, future: Tensor, gap: Tensor | None) -> Tensor:
        """Scores (B, N) of the past tokens (B, 1 + N, D), random few patches of the future (B, 3, H, W), gaps (B,)."""
        mask = self.choose_visible(future)
        scores = self.read(self.encoder(future, mask.keep), mask, memory, gap).total.mean(dim=-1)
        typical = scores.masked_fill(~mask.hidden, torch.nan).nanmedian(dim=1, keepdim=True).values
        return torch.where(mask.hidden, scores, typical)

    def _given(self, batch: dict[str, Tensor]) -> Tensor:
        wanted = (len(batch["future"]), math.prod(self.encoder.grid))
        found = batch.get("score")
        if found is None or tuple(found.shape) != wanted:
            shown = "none" if found is None else f"shape {tuple(found.shape)}"
            raise UserError(
                f'batch["score"] must be of shape {wanted}, but is {shown}: give it, or use score="variance"'
            )
        return found
