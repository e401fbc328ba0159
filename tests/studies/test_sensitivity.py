"""The study of the protocol, one factor at a time: its variants, and scores equal to those of written files."""

from dataclasses import fields
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from make_davis import make_davis, moving_squares
from make_vip import colours
from PIL import Image

from lib.data.davis import DavisDataset
from lib.evaluation.features import rgb_patch_features
from lib.evaluation.masks import propagate_masks
from lib.evaluation.protocols import PROTOCOLS, Protocol, get_protocol
from lib.score.davis import score_davis
from lib.score.tracking import track_masks
from lib.studies import sensitivity
from lib.studies.sensitivity import FACTORS, CachedVideo, cached_videos, jf_of_protocol, one_at_a_time, study
from lib.studies.table import wide

KEYS = ["J_mean", "F_mean", "JF_mean"]


def variants_of(base: Protocol) -> list[SimpleNamespace]:
    return [
        SimpleNamespace(factor=factor, value=value, protocol=protocol, is_base=protocol == base)
        for factor, value, protocol in one_at_a_time(base)
    ]


def still_video(truth: np.ndarray) -> CachedVideo:
    """A cell a pixel, each with a feature of its own, the same in all frames: everything seems to stand still."""
    size = truth.shape[1:]
    features = torch.eye(size[0] * size[1]).unflatten(1, size)
    return CachedVideo([features] * len(truth), size, truth, int(truth[0].max()))


def random_video(seed: int = 0, frames: int = 6, grid=(6, 9), size=(20, 30)) -> CachedVideo:
    """Frames that resemble each other a little, so that every choice of the protocol shows."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(5, *grid, generator=generator)
    features = [common + 0.7 * torch.randn(5, *grid, generator=generator) for _ in range(frames)]
    truth = np.zeros((frames, *size), np.uint8)
    truth[:, 3:12, 4:15], truth[:, 10:19, 18:27] = 1, 2
    return CachedVideo(features, (4 * grid[0], 4 * grid[1]), truth, 2)


@pytest.fixture
def few(monkeypatch):
    """Few values, so that all variants take no time."""
    factors = {"top_k": (1, 20), "radius": (1, 40), "label_resize": ("area",), "channel_min_max": (False, True)}
    monkeypatch.setattr(sensitivity, "FACTORS", factors)


# --- Variants ---


@pytest.mark.parametrize("name", PROTOCOLS)
def test_each_factor_has_the_base_once_and_changes_nothing_else(name):
    base = get_protocol(name)
    variants = variants_of(base)
    assert list(dict.fromkeys(variant.factor for variant in variants)) == list(FACTORS)
    for factor, values in FACTORS.items():
        mine = [variant for variant in variants if variant.factor == factor]
        assert [variant.protocol for variant in mine if variant.is_base] == [base]
        assert {variant.value for variant in mine} == {*values, getattr(base, factor)}
        for variant in mine:
            changed = [f.name for f in fields(base) if getattr(base, f.name) != getattr(variant.protocol, f.name)]
            assert changed == ([] if variant.is_base else [factor])
            assert getattr(variant.protocol, factor) == variant.value


def test_base_values_are_put_in_their_place(monkeypatch):
    base = get_protocol("dino", top_k=6, queue=40, radius=9, temperature=0.02)
    found = {factor: [v.value for v in variants_of(base) if v.factor == factor] for factor in FACTORS}
    assert found["top_k"] == [1, 3, 5, 6, 7, 10, 15, 20, 40]
    assert found["queue"] == [0, 1, 2, 4, 7, 14, 20, 30, 40]
    assert found["radius"] == [1, 2, 4, 8, 9, 12, 16, 20, 40]
    assert found["temperature"] == [0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.4, 0.7, 1, 2]
    assert found["shape"] == ["disc", "square"] and found["padded_start"] == [False, True]
    assert len(one_at_a_time(base)) == sum(map(len, found.values()))
    monkeypatch.setattr(sensitivity, "FACTORS", {"top_k": [20, 1, 20]})
    assert [(v.value, v.is_base) for v in variants_of(base)] == [(1, False), (6, True), (20, False)]


# --- Scores ---


def test_scores_by_hand():
    """Nothing seems to move, so the first mask stays; the truth moves a pixel a frame."""
    truth = np.zeros((5, 12, 16), np.uint8)
    for t in range(5):
        truth[t, 2:7, 1 + t : 6 + t] = 1
        truth[t, 8:11, 10:14] = 2
    base = get_protocol("crw", top_k=1)
    moving = [(5 - shift) / (5 + shift) for shift in (1, 2, 3)]  # frames 1 to 3 are scored
    found = jf_of_protocol([still_video(truth)], base)
    assert list(found) == KEYS and found["J_mean"] == pytest.approx((np.mean(moving) + 1) / 2)
    assert found["JF_mean"] == pytest.approx((found["J_mean"] + found["F_mean"]) / 2)
    alone = still_video(np.where(truth == 2, 1, 0).astype(np.uint8))
    assert jf_of_protocol([alone], base) == dict.fromkeys(KEYS, 1.0)
    # the mean is over three objects, not over two videos
    assert jf_of_protocol([alone, still_video(truth)], base)["J_mean"] == pytest.approx((np.mean(moving) + 2) / 3)


@pytest.mark.parametrize("name", ["crw", "dino"])
def test_scores_are_those_of_written_predictions(few, tmp_path, name):
    sequences = {"zebra": moving_squares(2, 5), "ant": moving_squares(1, 6)}
    root = make_davis(tmp_path / "davis", sequences)
    for sequence, masks in sequences.items():
        for t, mask in enumerate(masks):
            Image.fromarray(colours(mask)).save(root / f"JPEGImages/480p/{sequence}/{t:05d}.jpg", quality=95)
    dataset = DavisDataset(root)
    base = get_protocol(name, input_size=(32, 48), radius=3, queue=2)
    encoder = {"feature_fn": rgb_patch_features(4), "patch_size": 4}
    videos = cached_videos(dataset.sequences, protocol=base, **encoder)
    assert [len(video.features) for video in videos] == [5, 6] and videos[0].features[0].shape == (48, 8, 12)
    rows, variants = list(study(videos, base)), variants_of(base)
    assert [(row["factor"], row["value"], row["is_base"]) for row in rows] == [
        (variant.factor, variant.value, variant.is_base) for variant in variants
    ]
    for row, variant in zip(rows, variants, strict=True):
        tracker = partial(propagate_masks, protocol=variant.protocol, **encoder)
        folder = track_masks(dataset, tracker, tmp_path / "out", {"variant": [variant.factor, variant.value]})
        written = score_davis(root, folder, workers=1)
        assert {key: row[key] for key in KEYS} == pytest.approx({key: written[key] for key in KEYS}, abs=1e-12)
    assert len({row["JF_mean"] for row in rows}) > 3


def test_every_factor_shows_in_the_predictions():
    videos = [random_video(seed) for seed in range(2)]
    rows = list(study(videos, get_protocol("crw", radius=3, queue=2, top_k=4, temperature=0.2)))
    for factor in FACTORS:
        scores = {row["JF_mean"] for row in rows if row["factor"] == factor}
        assert len(scores) > 1, factor
    at_base = [{key: row[key] for key in KEYS} for row in rows if row["is_base"]]
    assert at_base == [at_base[0]] * len(FACTORS)


def test_the_base_is_propagated_once_and_rows_come_one_by_one(monkeypatch):
    asked = []
    plain = sensitivity.jf_of_protocol
    monkeypatch.setattr(sensitivity, "jf_of_protocol", lambda videos, p: [asked.append(p), plain(videos, p)][1])
    base = get_protocol("crw", radius=3, queue=2)
    monkeypatch.setattr(sensitivity, "FACTORS", {"top_k": (1, 10), "queue": (0, 2), "shape": ("disc", "square")})
    rows = study([random_video()], base)
    assert asked == []
    for number in (2, 2, 3, 3, 3, 4):  # after each row; the base comes first, its rows are second, last, and first
        next(rows)
        assert len(asked) == number
    assert next(rows, None) is None and asked.count(base) == 1


def test_threads_give_the_same_rows(few):
    base, videos = get_protocol("crw", radius=3, queue=2), [random_video(seed) for seed in range(2)]
    assert list(study(videos, base, workers=3)) == list(study(videos, base))


def test_a_study_leaves_what_is_cached_as_it_was(few):
    video = random_video()
    features, truth = [feature.clone() for feature in video.features], video.truth.copy()
    list(study([video], get_protocol("rsp", radius=2)))
    assert all(map(torch.equal, video.features, features)) and np.array_equal(video.truth, truth)


# --- The grid ---


def test_variants_of_the_protocol_are_rows(tiny_preset, tiny_world, tmp_path):
    factors = [row for row in sensitivity.ROWS if row.name in ("top_k", "shape")]
    found = wide(sensitivity.run(tiny_world, tmp_path, None, factors, seeds=1)).set_index("row")["JF_mean"]
    values = [f"top_k {value}" for value in FACTORS["top_k"] if value != get_protocol("crw").top_k]
    assert list(found.index) == ["base", *values, "shape square"]
    assert found.between(0, 100).all() and found.nunique() > 2
