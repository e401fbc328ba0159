"""The classifier of a ladder's memory."""

import torch

from lib.models.state_classifier import StateClassifier, pooled_features, state_features
from lib.models.video_ladder import VideoLadder


def test_features_of_the_reported_size_are_the_reported_ones():
    state = [[torch.rand(1, 64, 64 // 2**level, 80 // 2**level) for _ in range(3)] for level in range(4)]
    features = state_features(state)
    assert {name: part.shape[1] for name, part in features.items()} == {
        "deepest": 15_360, "subsampled": 10_080, "both": 25_440,
    }  # fmt: skip
    everything = sum(part.numel() for states in state for part in states)
    assert everything * 2000 > 1e9  # why not all are taken
    assert features["deepest"][0, 0] == state[3][0][0, 0, 0, 0]


def test_the_sample_of_finer_states_reaches_all_over_the_maps():
    """Every 128th value would be of the first column alone, where maps are 32, 16 and 8 wide."""
    columns = [torch.arange(side).expand(1, 16, side, side).float() for side in (32, 16, 8, 4)]
    sample = state_features([[part] * 3 for part in columns])["subsampled"]
    assert set(sample[0].tolist()) == set(range(32))


def test_pooled_features_by_hand():
    still, moving = torch.full((1, 2, 3, 5), 4.0), torch.zeros(3, 1, 1, 2, 2)
    moving[1, 0, 0, 1, 0] = 3.0  # at one of four places, in one of three frames
    mean, change = pooled_features([[still, moving[now]] for now in range(3)])
    torch.testing.assert_close(mean, torch.tensor([[4.0, 4.0, 0.25]]))
    torch.testing.assert_close(change, torch.tensor([[0.0, 0.0, 3 / 4]]))  # the variance of 0, 3, 0 is 3


def test_states_of_two_clips_do_not_mix():
    torch.manual_seed(0)
    model, frames = VideoLadder((32, 32), channels=4).eval(), torch.rand(2, 3, 3, 32, 32)
    with torch.no_grad():
        both, one = (state_features(model.remember(part)[0]) for part in (frames, frames[1:]))
    for name, values in one.items():
        torch.testing.assert_close(both[name][1:], values, rtol=1e-4, atol=1e-5)


def test_it_learns_what_can_be_told_apart():
    torch.manual_seed(0)
    labels = torch.arange(40) % 4
    batch = {"features": torch.randn(40, 12) + 3 * torch.eye(12)[labels], "label": labels}
    for options in ({}, {"norm": False}, {"dropout": 0.3}):
        model = StateClassifier(12, 4, hidden=32, **options)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(60):
            optimizer.zero_grad()
            loss, _ = model(batch)
            loss.backward()
            optimizer.step()
        found = model.eval().layers(batch["features"]).argmax(dim=1)
        assert (found == labels).float().mean() > 0.9
        assert any(isinstance(part, torch.nn.BatchNorm1d) for part in model.layers) is options.get("norm", True)
