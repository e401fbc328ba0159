"""What a ladder's memory knows, measured on clips whose class is easy to see."""

import numpy as np
import pytest
import torch

from lib.data.actions import ActionList, LabelledVideo
from lib.data.frame_clips import EvenWindows, FrameReader
from lib.models.video_ladder import VideoLadder
from lib.studies import hidden_states
from lib.studies.hidden_states import ARMS, accuracies, read_features
from tests.make_videos import write_frames


@pytest.fixture(scope="module")
def windows(tmp_path_factory) -> EvenWindows:
    """Six grey videos, three dark and three bright."""
    folder = tmp_path_factory.mktemp("grey")
    rng, videos = np.random.default_rng(0), []
    for number in range(6):
        frames = np.full((12, 32, 32, 3), 40 + 150 * (number % 2)) + rng.integers(0, 30, (12, 32, 32, 3))
        path = write_frames(folder / f"{number}.mp4", frames.astype(np.uint8), 30, "libx264")
        videos.append(LabelledVideo(path, number % 2))
    reader = FrameReader(3, (32, 32))
    return EvenWindows(reader.usable(ActionList(tuple(videos), ("dark", "bright")), 30), reader, 30, windows=2)


def test_features_are_of_each_window(windows):
    torch.manual_seed(0)
    model = VideoLadder((32, 32), channels=4)
    features, labels = read_features(model, windows)
    assert labels.tolist() == [0, 0, 1, 1] * 3 and set(features) == {*(kind for kind, _ in ARMS.values())}
    frames = windows[5]["video"].transpose(0, 1)[None].float() / 255
    with torch.no_grad():
        state, _ = model.remember(frames)
        pooled = torch.stack([model.taps(frame)[-1].mean(dim=(2, 3)) for frame in frames.unbind(1)]).mean(dim=0)
    deepest = torch.cat([part.flatten() for part in state[3]])
    torch.testing.assert_close(features["deepest"][5], deepest, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features["encoder, pooled"][5], pooled[0], rtol=1e-3, atol=1e-4)


def test_accuracies_of_every_arm(windows, tmp_path, monkeypatch):
    monkeypatch.setattr(hidden_states, "LENGTHS", (1 / 4, 1))
    torch.manual_seed(0)
    found = accuracies(VideoLadder((32, 32), channels=4), windows, windows, 0, tmp_path)
    values = {record["metric"]: record for record in found}
    assert len(values) == 2 * (len(ARMS) + len(hidden_states.CURVES))
    for arm in ARMS:
        if "changes" not in arm:  # nothing does here
            assert values[f"{arm}: video"]["value"] == 100, arm  # of the very clips that it learned
        assert values[f"{arm}: video"]["high"] > 0 and values[f"{arm}: clip"]["value"] > 0
