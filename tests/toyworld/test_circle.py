"""The moving circle."""

import torch

from lib.toyworld.circle import FRAMES, Circles, centroids


def test_the_disc_is_where_it_is_said_to_be():
    circles = Circles()
    frames = torch.stack([circles[number]["video"] for number in range(5)]).transpose(1, 2).float() / 255
    assert frames.shape == (5, FRAMES, 3, 32, 32)
    assert (centroids(frames) - circles.centres).abs().max() < 0.05
    area = (frames[:, :, 0] > 0.5).sum(dim=(2, 3))
    assert ((area - torch.pi * 16).abs() < 5).all()  # whole in every frame


def test_it_moves_at_a_steady_pace_and_one_sequence_is_mirrored():
    steps = Circles((32, 64), pace=3.0).centres.diff(dim=1)
    assert steps[..., 1].eq(0).all() and steps[:4, :, 0].eq(3).all() and steps[4, :, 0].eq(-3).all()


def test_the_index_may_go_on_counting():
    circles = Circles()
    assert torch.equal(circles[12]["video"], circles[2]["video"]) and len(circles) == 5


def test_a_haze_moves_no_centroid_and_nothing_bright_has_none():
    frame = torch.full((3, 20, 20), 0.2)
    frame[:, 4:7, 10:13] = 1.7  # beyond white is white
    assert centroids(frame).tolist() == [11.0, 5.0]
    assert centroids(torch.full((3, 4, 4), 0.4)).isnan().all()
