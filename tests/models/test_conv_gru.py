"""The recurrent unit against its equations, one place at a time."""

import pytest
import torch
import torch.nn.functional as F

from lib.models.conv_gru import ConvGRU, convolve


def slow_step(unit: ConvGRU, inputs, state):
    """The equations with every sum written out: B = 1."""

    def conv(layer, maps):
        weight, bias = layer.weight, layer.bias
        reach, (_, height, width) = weight.shape[-1] // 2, maps.shape
        out = torch.zeros(len(weight), height, width)
        for y in range(height):
            for x in range(width):
                out[:, y, x] = bias
                for v in range(max(0, y - reach), min(height, y + reach + 1)):
                    for u in range(max(0, x - reach), min(width, x + reach + 1)):
                        out[:, y, x] += weight[:, :, v - y + reach, u - x + reach] @ maps[:, v, u]
        return out

    gates = torch.sigmoid(conv(unit.gates, torch.cat([inputs, state])))
    reset, update = gates[: unit.channels], gates[unit.channels :]
    candidate = torch.tanh(conv(unit.candidate, torch.cat([inputs, reset * state])))
    return (1 - update) * state + update * candidate


@pytest.mark.parametrize("kernel", [1, 3, 7])
@pytest.mark.parametrize("size", [(1, 1), (2, 5)])
def test_a_sequence_is_what_the_equations_say(kernel, size):
    torch.manual_seed(0)
    unit, state = ConvGRU(3, 2, kernel), None
    slow = torch.zeros(2, *size)
    for _ in range(3):
        inputs = torch.randn(1, 3, *size)
        state, slow = unit(inputs, state), slow_step(unit, inputs[0], slow)
        torch.testing.assert_close(state[0], slow)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 2), (1, 6), (8, 8)])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_gradients_in_half_precision_are_those_in_full(kernel, size):
    """Where a kernel is larger than the map, some CPU kernels return uninitialised memory as its gradient."""
    torch.manual_seed(0)
    conv, maps = torch.nn.Conv2d(96, 32, kernel, padding=kernel // 2), torch.randn(5, 96, *size)
    slope = torch.randn(5, 32, *size)
    (exact,) = torch.autograd.grad(F.conv2d(maps, conv.weight, conv.bias, padding=kernel // 2), conv.weight, slope)
    for _ in range(5):  # it depends on what lay in memory
        with torch.autocast("cpu", torch.bfloat16):
            (found,) = torch.autograd.grad(convolve(conv, maps).float(), conv.weight, slope)
        assert (found - exact).norm() < 0.02 * exact.norm()
