"""Several pasts and futures: one of each is SiamMAE, more equal a slow reference; times, orders, the recurrent core."""

import math

import pytest
import torch
from slow_layers import linear, shake
from slow_siammae import (
    DECODER_HEADS,
    HEADS,
    TINY,
    TINY_DECODER,
    P,
    cross_self_block,
    cut,
    encode,
    fill,
    floats,
    frames,
    head,
    reference_loss,
    weights_of,
)
from small_models import give

from lib.errors import UserError
from lib.models.several_frames import JOINS, RecurrentCore, SeveralFrames, TimeEmbedding
from lib.models.siammae import SiamMAE
from lib.tokens.masking import Mask, random_mask
from lib.tokens.patches import normalize_images, target_patches

every_join = pytest.mark.parametrize("join", JOINS)


def tiny(join: str = "memory", knows_time: bool = True, **arguments) -> SeveralFrames:
    torch.manual_seed(0)
    return shake(SeveralFrames(join, knows_time, **{**TINY, **TINY_DECODER, "mask_ratio": 0.75, **arguments}))


def pictures(number: int, batch: int = 2) -> torch.Tensor:
    return floats(batch * number).unflatten(0, (batch, number))


def scene(pasts: int, futures: int, batch: int = 2) -> tuple:
    """Normalised frames, their times, and a mask of all futures."""
    age = torch.tensor([20.0, 9.0, 4.0, 0.0])[-pasts:].expand(batch, -1)
    gap = torch.tensor([4.0, 11.0, 30.0, 48.0])[:futures].expand(batch, -1)
    return pictures(pasts, batch), age, pictures(futures, batch), gap, random_mask(batch * futures, 16, 0.75)


def of_futures(mask: Mask, batch: int, order: list[int]) -> Mask:
    """The mask with the futures of each sample in another order."""
    return Mask(*(part.unflatten(0, (batch, -1))[:, order].flatten(0, 1) for part in mask))


# --- one of each, and slow references -----------------------------------------------------------------------


@every_join
def test_one_past_and_one_future_are_siammae(join):
    model, plain = tiny(join, knows_time=False), SiamMAE(**TINY, **TINY_DECODER, mask_ratio=0.75).eval()
    shared = {name: value for name, value in model.state_dict().items() if not name.startswith("core")}
    plain.load_state_dict(shared)
    pasts, age, futures, gap, mask = scene(1, 1)
    prediction, used = model.predict(pasts, age, futures, gap, mask)
    assert used is mask and prediction.shape == (2, 1, 16, 192)
    torch.testing.assert_close(prediction[:, 0], plain.predict(pasts[:, 0], futures[:, 0], mask)[0])
    past, future, losses = frames(), frames(), []
    batch = {"pasts": past[:, None], "age": torch.zeros(3, 1), "futures": future[:, None], "gap": torch.ones(3, 1)}
    for each, given in ((model, batch), (plain, {"past": past, "future": future})):
        torch.manual_seed(5)  # the same masks
        losses.append(each(given)[0])
    torch.testing.assert_close(*losses)


def waves(time: float, weights, name: str) -> torch.Tensor:
    """A TimeEmbedding by its formula: wavelengths from 1 to 64 frames a radian."""
    half = weights[f"{name}.linear.weight"].shape[1] // 2
    angles = [time / 64 ** (place / (half - 1)) for place in range(half)]
    table = torch.tensor([*map(math.sin, angles), *map(math.cos, angles)], dtype=torch.float64)
    return linear(table, weights, f"{name}.linear")


def core(tokens, state, weights, name: str):
    """The gated unit by its formula: sigmoid gates, a block as the candidate."""
    width = tokens.shape[1]
    gates = 1 / (1 + torch.exp(-linear(torch.cat([tokens, state], dim=1), weights, f"{name}gates")))
    update, reset = gates[:, :width], gates[:, width:]
    candidate = cross_self_block(tokens, reset * state, weights, f"{name}block.", HEADS)
    return (1 - update) * state + update * candidate


def reference(model, pasts, age, futures, gap, keeps):
    """Predictions (F, N, P*P*3) of one sample."""
    weights, timed = weights_of(model), model.architecture["knows_time"]
    memories = []
    for past, time in zip(pasts.double(), age.tolist(), strict=True):
        encoded = encode(past, weights, range(16))
        memories.append(encoded + waves(time, weights, "age_embed") if timed else encoded)
    if model.architecture["join"] == "memory":
        memory = torch.cat(memories)
    else:
        memory = memories[0]
        for tokens in memories[1:]:
            memory = core(tokens, memory, weights, "core.")
    memory, streams = linear(memory, weights, "decoder.embed"), []
    for future, time, keep in zip(futures.double(), gap.tolist(), keeps.tolist(), strict=True):
        stream = fill(encode(future, weights, keep), weights, keep, 16)
        streams.append(stream + waves(time, weights, "gap_embed") if timed else stream)
    x = torch.cat(streams)
    for number in range(TINY_DECODER["decoder_depth"]):
        x = cross_self_block(x, memory, weights, f"decoder.blocks.{number}.", DECODER_HEADS)
    return head(x, weights).unflatten(0, (len(futures), 17))[:, 1:]


@pytest.mark.parametrize("knows_time", [True, False])
@every_join
def test_several_frames_equal_a_slow_reference(join, knows_time):
    model = tiny(join, knows_time)
    batch = {"pasts": frames(6).unflatten(0, (2, 3)), "futures": frames(4).unflatten(0, (2, 2))}
    _, age, _, gap, mask = scene(3, 2)
    pasts, futures = (normalize_images(batch[name]) for name in ("pasts", "futures"))
    parts = zip(pasts, age, futures, gap, mask.keep.unflatten(0, (2, 2)), strict=True)
    expected = torch.stack([reference(model, *part) for part in parts])
    prediction, _ = model.predict(pasts, age, futures, gap, mask)
    torch.testing.assert_close(prediction.double(), expected, rtol=1e-4, atol=1e-5)
    give(model, mask)
    loss, logs = model(batch | {"age": age, "gap": gap})
    wanted = reference_loss(expected.flatten(0, 1), futures.flatten(0, 1), mask.keep, norm_pix=True)
    torch.testing.assert_close(loss.double(), wanted, rtol=1e-4, atol=1e-5)
    assert logs == {"loss": loss}


def test_the_recurrent_core_is_its_formula_and_keeps_the_state_where_its_gate_is_shut():
    unit = shake(RecurrentCore(32, HEADS, 4.0))
    tokens, state, weights = torch.randn(2, 5, 32), torch.randn(2, 5, 32), weights_of(unit)
    parts = zip(tokens.double(), state.double(), strict=True)
    expected = torch.stack([core(*part, weights, "") for part in parts])
    torch.testing.assert_close(unit(tokens, state).double(), expected, rtol=1e-5, atol=1e-5)
    unit.gates.bias.data[:32] = -100
    torch.testing.assert_close(unit(tokens, state), state)


# --- times and orders ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [16, 128])
def test_every_gap_has_an_embedding_of_its_own(dim):
    torch.manual_seed(0)
    embedding, times = TimeEmbedding(dim), torch.arange(49)
    assert not embedding(times).any(), "training begins as if no time were known"
    torch.nn.init.xavier_uniform_(embedding.linear.weight)
    found = embedding(times).detach()
    assert found.shape == (49, dim)
    apart = torch.cdist(found, found) + torch.eye(49) * 9
    assert apart.min() > 0.05 * found.norm(dim=1).mean()
    shaken = shake(embedding)
    weights = {f"t.{name}": value for name, value in weights_of(shaken).items()}
    expected = torch.stack([waves(float(time), weights, "t") for time in times])
    torch.testing.assert_close(shaken(times).double(), expected, rtol=1e-4, atol=1e-4)


@every_join
def test_futures_may_come_in_any_order(join):
    model, order = tiny(join), [2, 0, 1]
    pasts, age, futures, gap, mask = scene(2, 3)
    prediction, _ = model.predict(pasts, age, futures, gap, mask)
    again, _ = model.predict(pasts, age, futures[:, order], gap[:, order], of_futures(mask, 2, order))
    torch.testing.assert_close(again, prediction[:, order], rtol=1e-4, atol=1e-5)


@every_join
def test_gaps_and_ages_count_where_time_is_known_and_there_alone(join):
    pasts, age, futures, gap, _ = scene(2, 2)
    futures = futures[:, :1].expand_as(futures)  # the same frame twice, under one mask
    mask = Mask(*(part.repeat_interleave(2, dim=0) for part in random_mask(2, 16, 0.75)))
    for knows_time in (True, False):
        model = tiny(join, knows_time)
        prediction, _ = model.predict(pasts, age, futures, gap, mask)
        assert torch.allclose(prediction[:, 0], prediction[:, 1], atol=1e-5) != knows_time
        for changed in ((age, gap + 5), (age + torch.tensor([5.0, 0.0]), gap)):
            other, _ = model.predict(pasts, changed[0], futures, changed[1], mask)
            assert torch.allclose(other, prediction, atol=1e-5) != knows_time


def test_a_memory_has_no_order_but_its_times_and_a_recurrent_core_has():
    order = [2, 0, 1]
    pasts, age, futures, gap, mask = scene(3, 1)
    for join, knows_time, ages, same in (
        ("memory", False, age, True), ("memory", True, age[:, order], True), ("memory", True, age, False),
        ("recurrent", False, age, False), ("recurrent", True, age[:, order], False),
    ):  # fmt: skip
        model = tiny(join, knows_time)
        prediction, _ = model.predict(pasts, age, futures, gap, mask)
        again, _ = model.predict(pasts[:, order], ages, futures, gap, mask)
        assert torch.allclose(again, prediction, rtol=1e-4, atol=1e-5) == same


@every_join
def test_every_past_shows_and_futures_see_each_other_but_not_what_is_hidden(join):
    model = tiny(join)
    pasts, age, futures, gap, mask = scene(3, 2)
    pasts, futures = pasts.requires_grad_(), futures.requires_grad_()
    prediction, _ = model.predict(pasts, age, futures, gap, mask)
    prediction[:, 0].square().sum().backward()
    assert all(bool(patch.any()) for image in pasts.grad.flatten(0, 1) for patch in cut(image))
    seen = torch.tensor([[bool(patch.any()) for patch in cut(image)] for image in futures.grad.flatten(0, 1)])
    assert torch.equal(seen, ~mask.hidden)


# --- any numbers, settings ----------------------------------------------------------------------------------


@every_join
def test_any_numbers_will_do_at_each_call_and_every_weight_learns(join):
    model = tiny(join)
    for pasts, futures in ((1, 1), (3, 2), (2, 4)):
        before, age, after, gap, _ = scene(pasts, futures)
        prediction, mask = model.predict(before, age, after, gap)
        assert prediction.shape == (2, futures, 16, 192) and mask.hidden.shape == (2 * futures, 16)
        assert len({tuple(row) for row in mask.hidden.tolist()}) == 2 * futures, "each future has a mask of its own"
    batch = {"pasts": frames(6).unflatten(0, (2, 3)), "futures": frames(4).unflatten(0, (2, 2))}
    model(batch | {"age": scene(3, 1)[1], "gap": scene(1, 2)[3]})[0].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_the_loss_ignores_visible_patches():
    model, mask = tiny(norm_pix=False), random_mask(4, 16, 0.75)
    give(model, mask)
    batch = {"pasts": frames(2)[:, None], "futures": frames(4).unflatten(0, (2, 2))}
    times = {"age": torch.zeros(2, 1), "gap": torch.tensor([[4.0, 9.0]] * 2)}
    perfect = target_patches(normalize_images(batch["futures"]).flatten(0, 1), P, norm_pix=False)
    model.predict = lambda *_: (perfect.unflatten(0, (2, 2)), mask)
    assert model(batch | times)[0] < 1e-10
    for number, patch in ((0, 3), (1, 8), (2, 0), (3, 15), *((3, n) for n in range(8))):
        changed = batch["futures"].clone()
        cut(changed.flatten(0, 1)[number])[patch].random_(256)
        loss = model(batch | times | {"futures": changed})[0]
        assert bool(loss > 1e-3) == bool(mask.hidden[number, patch])


def test_unknown_joins_and_what_cannot_work_are_refused_in_one_line():
    with pytest.raises(UserError, match="^unknown join 'memry': did you mean 'memory'.[^\n]+$"):
        tiny("memry")
    with pytest.raises(UserError, match="^memory_positions is for one past frame[^\n]+$"):
        tiny(memory_positions=True)
    wide = floats(2, 16, 64)[:, None]
    for pasts, futures in ((wide, pictures(1)), (pictures(1), wide)):
        with pytest.raises(UserError, match="frames are 16x64, .* 32x32"):
            tiny().predict(pasts, torch.zeros(2, 1), futures, torch.ones(2, 1))


def test_the_architecture_tells_kinds_apart_and_rebuilds_them():
    models = [tiny(join, knows_time) for join in JOINS for knows_time in (True, False)]
    found = [model.architecture for model in models]
    assert all(found.count(each) == 1 for each in found)
    given = scene(3, 2)
    for model in models:
        again = SeveralFrames(**{**model.architecture, "masking": model.masking}).eval()
        again.load_state_dict(model.state_dict())
        assert torch.equal(again.predict(*given)[0], model.predict(*given)[0])
