"""The convolution that knows where it is."""

import pytest
import torch

from lib.errors import UserError
from lib.models.location_conv import LocationConv2d


def test_it_begins_as_a_plain_convolution():
    conv, maps = LocationConv2d(3, 4, 3, (2, 5)), torch.randn(2, 3, 2, 5)
    torch.testing.assert_close(conv(maps), torch.nn.functional.conv2d(maps, conv.weight, conv.bias, padding=1))
    assert conv.planes.numel() == 3 * 2 * 5


def test_the_ramps_run_along_their_own_axes_of_a_map_that_is_no_square():
    conv, maps = LocationConv2d(1, 2, 1, (2, 3)), torch.zeros(1, 1, 2, 3)
    conv.bias.data.zero_()
    for plane, values in enumerate(([[1.0] * 3] * 2, [[-1.0, 0, 1]] * 2, [[-1.0] * 3, [1.0] * 3])):
        conv.planes.data.zero_()
        conv.planes.data[0, plane] = 1
        expected = torch.tensor(values).expand(1, 2, 2, 3)  # every channel alike
        torch.testing.assert_close(conv(maps), expected)


def test_with_a_map_for_each_channel_channels_differ():
    conv, maps = LocationConv2d(1, 2, 1, (2, 3), per_channel=True), torch.zeros(1, 1, 2, 3)
    conv.bias.data.zero_()
    conv.planes.data[1, 0] = 5
    assert conv(maps)[0, 0].eq(0).all() and conv(maps)[0, 1].eq(5).all()


def test_ramps_move_with_the_module_and_are_no_weights():
    conv = LocationConv2d(1, 1, 1, (2, 3))
    assert conv.double().ramps.dtype == torch.float64
    assert set(conv.state_dict()) == {"weight", "bias", "planes"}


def test_maps_of_another_size_are_refused():
    with pytest.raises(UserError, match="maps are 3x2, but their locations were learned on 2x3"):
        LocationConv2d(1, 1, 1, (2, 3))(torch.zeros(1, 1, 3, 2))
