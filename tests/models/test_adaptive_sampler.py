"""The sampler: the draw against enumeration, the objectives against loops and by what they do, sizes, logs."""

import itertools
import math

import pytest
import torch
from slow_layers import attention, linear, mlp, plain_block, shake

from lib.errors import UserError
from lib.models.adaptive_sampler import (
    OBJECTIVES,
    AdaptiveMasking,
    AdaptiveSampler,
    distribution_logs,
    gumbel_top_k,
    ordered_log_prob,
)
from lib.tokens.masking import Mask, mask_from_noise

P4 = torch.tensor([0.5, 0.25, 0.2, 0.05])


def random_mask(batch: int, tokens: int, visible: int) -> Mask:
    return mask_from_noise(torch.rand(batch, tokens), visible)


def build(tokens: int = 12, mask_ratio: float = 0.5, **settings) -> AdaptiveSampler:
    """A sampler for tokens 32 wide, at positions that are random numbers."""
    torch.manual_seed(2)
    return AdaptiveMasking(mask_ratio, **settings).prepare(torch.randn(tokens, 32), (1, 1, tokens))


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# --- the draw -----------------------------------------------------------------------------------------------


def exact_orders(probabilities: list[float], visible: int) -> dict[tuple[int, ...], float]:
    """The probability of every ordered draw without replacement, by the definition."""
    law = {}
    for order in itertools.permutations(range(len(probabilities)), visible):
        chance, left = 1.0, 1.0
        for token in order:
            chance *= probabilities[token] / left
            left -= probabilities[token]
        law[order] = chance
    return law


@pytest.mark.parametrize("draw", ["gumbel", "multinomial"])
def test_gumbel_top_k_and_multinomial_have_the_enumerated_law(draw):
    torch.manual_seed(0)
    law, number = exact_orders(P4.double().tolist(), 2), 40_000
    assert sum(law.values()) == pytest.approx(1)
    if draw == "gumbel":
        keep = gumbel_top_k(P4.log().repeat(number, 1), 2).keep
    else:
        keep = torch.multinomial(P4.repeat(number, 1), 2, replacement=False)
    seen = torch.bincount(keep[:, 0] * 4 + keep[:, 1], minlength=16)
    expected = torch.tensor([law.get(divmod(code, 4), 0.0) * number for code in range(16)], dtype=torch.float64)
    assert (seen[expected == 0] == 0).all()
    chi_square = ((seen - expected)[expected > 0] ** 2 / expected[expected > 0]).sum()
    assert chi_square < 31.26  # twelve orders: the 99.9th percentile at 11 degrees of freedom

    inclusion = [sum(chance for order, chance in law.items() if token in order) for token in range(4)]
    share = torch.stack([(keep == token).any(dim=1).float().mean() for token in range(4)])
    torch.testing.assert_close(share, torch.tensor(inclusion), rtol=0, atol=4 * 0.5 / math.sqrt(number))


def test_the_chi_square_would_find_another_law():
    torch.manual_seed(0)
    law, number = exact_orders(P4.double().tolist(), 2), 40_000
    keep = gumbel_top_k((P4 + 0.02).log().repeat(number, 1), 2).keep  # a slightly flatter one
    seen = torch.bincount(keep[:, 0] * 4 + keep[:, 1], minlength=16)
    assert sum((seen[a * 4 + b] - p * number) ** 2 / (p * number) for (a, b), p in law.items()) > 100


def test_the_draw_is_a_mask_even_where_probabilities_underflow():
    log_probs = torch.tensor([[0.0, -2e4, -3e4, -4e4, -5e4]]).log_softmax(dim=1).repeat(50, 1)
    assert (log_probs.exp()[:, 1:] == 0).all()
    mask = gumbel_top_k(log_probs, 3)
    assert mask.keep.tolist() == [[0, 1, 2]] * 50
    assert mask.hidden.tolist() == [[False, False, False, True, True]] * 50


@pytest.mark.parametrize("visible", [1, 2, 3, 4])
def test_the_log_probability_of_an_ordered_draw_equals_the_definition(visible):
    law = exact_orders(P4.double().tolist(), visible)
    for order, chance in law.items():
        rest = [token for token in range(4) if token not in order]
        restore = torch.tensor([[*order, *rest]]).argsort(dim=1)
        mask = Mask(torch.tensor([order]), restore, restore >= visible)
        assert ordered_log_prob(P4.double().log().unsqueeze(0), mask).exp().item() == pytest.approx(chance)


def test_the_log_probability_of_a_draw_stays_finite():
    logits = torch.tensor([[0.0, -500.0, -1000.0, -1500.0]], requires_grad=True)
    log_probs = logits.log_softmax(dim=1)
    value = ordered_log_prob(log_probs, gumbel_top_k(log_probs, 3))
    value.sum().backward()
    assert value.item() == pytest.approx(0, abs=1e-5) and logits.grad.isfinite().all()


# --- the sampler --------------------------------------------------------------------------------------------


def released_block(x, weights, name, heads):
    """The released sampler's block in evaluation: no bias on q, k, v; epsilon 1e-5."""

    def norm(values, which):
        centred = values - values.mean(dim=1, keepdim=True)
        spread = ((centred**2).mean(dim=1, keepdim=True) + 1e-5).sqrt()
        return centred / spread * weights[f"{name}.{which}.weight"] + weights[f"{name}.{which}.bias"]

    queries, keys, values = (norm(x, "norm1") @ weights[f"{name}.attn.qkv.weight"].T).chunk(3, dim=1)
    x = x + linear(attention(queries, keys, values, heads), weights, f"{name}.attn.proj")
    return x + mlp(norm(x, "norm2"), weights, f"{name}.mlp")


@pytest.mark.parametrize(
    ("variant", "depth", "width"),
    [("ours", 1, None), ("paper", 1, 16), ("ours", 2, 32), ("ours", 0, None), ("paper", 0, 16),
     ("released_code", 1, None)],
)  # fmt: skip
def test_log_probabilities_equal_a_slow_reference(variant, depth, width):
    sampler = shake(build(variant=variant, depth=depth, width=width))
    weights = {name: value.double() for name, value in sampler.state_dict().items()}
    tokens = torch.randn(3, 12, 32)
    for sample, log_probs in zip(tokens.double(), sampler.log_probs(tokens), strict=True):
        x = sample + sampler.positions.detach().double().view(12, 32)
        if depth == 0 or width == 16:
            x = linear(x, weights, "embed")
        for number in range(depth):
            block = released_block if variant == "released_code" else plain_block
            x = block(x, weights, f"blocks.{number}", 8)
        scores = linear(x, weights, "head").flatten().exp()
        torch.testing.assert_close(log_probs.double(), (scores / scores.sum()).log(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("width", [None, 16])
def test_without_mlp_the_sampler_is_attention_and_a_linear(width):
    sampler = shake(build(depth=2, width=width, mlp=False))
    weights = {name: value.double() for name, value in sampler.state_dict().items()}
    assert not any("mlp" in name or "norm2" in name for name in weights)
    tokens = torch.randn(3, 12, 32)
    for sample, log_probs in zip(tokens.double(), sampler.log_probs(tokens), strict=True):
        sample = sample + sampler.positions.double()
        x = linear(sample, weights, "embed") if width else sample
        for name in ("blocks.0", "blocks.1"):
            normed = torch.nn.functional.layer_norm(
                x, x.shape[1:], weights[f"{name}.norm1.weight"], weights[f"{name}.norm1.bias"], 1e-6
            )
            queries, keys, values = linear(normed, weights, f"{name}.attn.qkv").chunk(3, dim=1)
            x = x + linear(attention(queries, keys, values, 8), weights, f"{name}.attn.proj")
        expected = linear(x, weights, "head").flatten().log_softmax(0)
        torch.testing.assert_close(log_probs.double(), expected, rtol=1e-5, atol=1e-5)


def test_the_released_sampler_drops_only_behind_attention_and_mlp():
    block = build(variant="released_code").blocks[0]
    rates = {name: part.p for name, part in block.named_modules() if isinstance(part, torch.nn.Dropout) and part.p}
    assert rates == {"attn.proj_drop": 0.1, "mlp.drop2": 0.1}


def test_the_sampler_is_a_strategy_that_tells_what_it_drew_from():
    sampler, tokens = shake(build(64, 0.95)), torch.randn(5, 64, 32)
    mask = sampler(tokens, (1, 8, 8))
    assert mask.keep.shape == (5, 3) and mask.hidden.sum(dim=1).tolist() == [61] * 5
    assert torch.equal(mask.log_probs, sampler.log_probs(tokens)) and mask.log_probs.dtype == torch.float32
    torch.testing.assert_close(mask.log_probs.exp().sum(dim=1), torch.ones(5))
    for sample in range(5):
        assert set(mask.keep[sample].tolist()) == set((~mask.hidden[sample]).nonzero().flatten().tolist())


def test_training_starts_from_random_masking_where_it_says_so():
    torch.manual_seed(0)
    tokens = torch.randn(2, 64, 32)
    for variant, objective in OBJECTIVES.items():
        spread = build(64, variant=variant).eval().log_probs(tokens)
        assert torch.allclose(spread, torch.tensor(-math.log(64))) == objective.uniform_start


def test_bf16_leaves_log_probabilities_in_float32():
    sampler, tokens = shake(build(64)), torch.randn(2, 64, 32)
    with torch.autocast("cpu", torch.bfloat16):
        log_probs = sampler.log_probs(tokens)
    assert log_probs.dtype == torch.float32
    torch.testing.assert_close(log_probs.exp().sum(dim=1), torch.ones(2))


def test_positions_are_the_encoders_or_learned():
    for variant, objective in OBJECTIVES.items():
        sampler = build(variant=variant)
        assert isinstance(sampler.positions, torch.nn.Parameter) == objective.own_positions
        assert ("positions" in sampler.state_dict()) == objective.own_positions
        if objective.own_positions:
            assert not sampler.positions.any()


def test_sampler_sizes_of_table_1f():
    def size(depth, width):
        with torch.device("meta"):
            return count(AdaptiveMasking(depth=depth, width=width).prepare(torch.empty(1568, 768), (8, 14, 14)))

    def block(d):
        return 12 * d * d + 13 * d  # timm's

    assert size(1, None) == block(768) + 769 and size(1, 768) == size(1, None)
    assert size(1, 384) == 769 * 384 + block(384) + 385
    assert size(2, 384) == size(1, 384) + block(384)
    assert size(0, None) == 769 * 768 + 769  # Linear(d, d), Linear(d, 1)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"variant": "papers"}, "unknown sampling variant 'papers': did you mean 'paper'"),
        ({"variant": "release"}, "unknown sampling variant 'release': did you mean 'released_code'"),
        ({"mask_ratio": 0.95}, "mask_ratio 0.95 hides all 12 patches"),
        ({"width": 20}, "a width of 20 is no multiple of its 8 heads"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(settings, said):
    with pytest.raises(UserError, match=rf"^[^\n]*{said}[^\n]*$"):
        build(**settings)


# --- the objectives -----------------------------------------------------------------------------------------


def test_objectives_equal_loops():
    torch.manual_seed(0)
    log_probs, errors = torch.randn(3, 10, dtype=torch.float64).log_softmax(1), torch.rand(3, 10, dtype=torch.float64)
    mask = random_mask(3, 10, 4)
    hidden = [[token for token in range(10) if token not in keep] for keep in mask.keep.tolist()]
    rewards = [sum(errors[clip, token].item() for token in hidden[clip]) / 6 for clip in range(3)]
    for clip in range(3):
        terms = [(log_probs[clip, token].item(), errors[clip, token].item()) for token in hidden[clip]]
        total = -sum(log_p * error for log_p, error in terms)
        drawn, left = 0.0, 1.0
        for token in mask.keep[clip].tolist():
            chance = log_probs[clip, token].exp().item()
            drawn, left = drawn + math.log(chance / left), left - chance
        expected = {
            "paper": total,
            "released_code": total / 6,
            "ours": total / sum(error for _, error in terms),
            "reinforce": -(rewards[clip] - sum(rewards) / 3) * drawn,
        }
        for variant, value in expected.items():
            loss = OBJECTIVES[variant].loss(log_probs, mask, errors)
            assert loss.shape == (3,) and loss[clip].item() == pytest.approx(value)


def test_objectives_by_hand():
    # Two tokens, the second hidden, P 1/4 and 3/4, its error 2.
    log_probs, errors = torch.tensor([[0.25, 0.75]]).log(), torch.tensor([[9.0, 2.0]])
    mask = Mask(torch.tensor([[0]]), torch.tensor([[0, 1]]), torch.tensor([[False, True]]))
    values = {name: objective.loss(log_probs, mask, errors).item() for name, objective in OBJECTIVES.items()}
    assert values["paper"] == values["released_code"] == pytest.approx(-2 * math.log(0.75))
    assert values["ours"] == pytest.approx(-math.log(0.75))
    assert values["reinforce"] == 0  # a batch of one clip has no better or worse


def test_ours_does_not_depend_on_the_scale_of_a_clips_errors():
    log_probs, errors, mask = torch.randn(2, 10).log_softmax(1), torch.rand(2, 10), random_mask(2, 10, 4)
    scaled = errors * torch.tensor([[1.0], [50.0]])
    torch.testing.assert_close(*(OBJECTIVES["ours"].loss(log_probs, mask, e) for e in (errors, scaled)))
    paper = [OBJECTIVES["paper"].loss(log_probs, mask, e) for e in (errors, scaled)]
    torch.testing.assert_close(paper[0] * torch.tensor([1.0, 50.0]), paper[1])


def test_ours_is_safe_where_nothing_is_left_to_learn():
    logits = torch.randn(2, 10, requires_grad=True)
    loss = OBJECTIVES["ours"].loss(logits.log_softmax(1), random_mask(2, 10, 4), torch.zeros(2, 10))
    loss.sum().backward()
    assert loss.tolist() == [0, 0] and not logits.grad.any()


def bandit(variant: str, steps: int = 400, clips: int = 256) -> torch.Tensor:
    """Learn eight logits where token i, when hidden, always costs its own error; returns the probabilities."""
    torch.manual_seed(0)
    errors = torch.tensor([1.0, 1, 1, 1, 1, 1, 2, 4]).repeat(clips, 1)
    logits = torch.zeros(8, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr={"paper": 0.02, "released_code": 0.1}.get(variant, 0.2))
    for _ in range(steps):
        log_probs = logits.log_softmax(0).expand(clips, -1)
        loss = OBJECTIVES[variant].loss(log_probs, gumbel_top_k(log_probs, 2), errors).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return logits.detach().softmax(0)


@pytest.mark.parametrize("variant", ["paper", "released_code", "ours"])
def test_error_weighted_likelihood_comes_to_show_hard_tokens(variant):
    learned = bandit(variant)
    assert learned[7] > 1.3 * learned[6] > 1.3**2 * learned[:6].max()
    assert learned[7] < 0.4  # its share of all errors at most: no collapse


def test_probabilities_settle_at_the_shares_of_the_errors_met_while_hidden():
    learned = bandit("paper", steps=600)
    torch.manual_seed(1)
    hidden = gumbel_top_k(learned.log().repeat(200_000, 1), 2).hidden.float().mean(dim=0)
    met = torch.tensor([1.0, 1, 1, 1, 1, 1, 2, 4]) * hidden
    torch.testing.assert_close(learned, met / met.sum(), rtol=0.1, atol=0)


def test_the_papers_reward_in_a_policy_gradient_comes_to_hide_hard_tokens():
    learned = bandit("reinforce")
    assert learned[7] < learned[6] < learned[:6].min()


def test_the_policy_gradient_is_that_of_the_expected_reward():
    """Exactly, by enumeration: the mean of the loss's gradient over all draws of two clips, times B / (B - 1)."""
    errors, logits = torch.tensor([1.0, 2.0, 4.0, 0.5], dtype=torch.float64), P4.double().log().requires_grad_()
    law = exact_orders(P4.double().tolist(), 2)
    masks = {}
    for order in law:
        restore = torch.tensor([*order, *(t for t in range(4) if t not in order)]).argsort()
        masks[order] = (torch.tensor(order), restore, restore >= 2)
    mean_loss = 0.0
    for first, second in itertools.product(law, law):
        mask = Mask(*(torch.stack(part) for part in zip(masks[first], masks[second], strict=True)))
        losses = OBJECTIVES["reinforce"].loss(logits.log_softmax(0).expand(2, -1), mask, errors.expand(2, -1))
        mean_loss = mean_loss + law[first] * law[second] * losses.mean()
    (gradient,) = torch.autograd.grad(mean_loss, logits)

    reward = 0.0
    for order in law:
        chance, left = 1.0, 1.0
        for token in order:
            chance, left = chance * logits.softmax(0)[token] / left, left - logits.softmax(0)[token]
        reward = reward + chance * errors[masks[order][2]].mean()
    (ascent,) = torch.autograd.grad(reward, logits)
    torch.testing.assert_close(gradient, -ascent / 2, rtol=1e-6, atol=1e-9)


# --- logs ---------------------------------------------------------------------------------------------------


def test_logs_by_hand():
    log_probs = torch.tensor([[0.25] * 4, [0.5, 0.5, 1e-30, 1e-30]]).log()
    logs = {name: value.item() for name, value in distribution_logs(log_probs, 3).items()}
    assert logs["entropy"] == pytest.approx((math.log(4) + math.log(2)) / 2)
    assert logs["entropy_share"] == pytest.approx(0.75)
    assert logs["max_probability"] == pytest.approx(0.375)
    assert logs["effective_tokens"] == pytest.approx(3)
    assert logs["collapsed"] == 0.5  # two effective tokens are fewer than three draws
