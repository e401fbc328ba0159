"""The study of several frames: what rows train, predictions from the truth and from predictions, errors, guesses."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from lib.data.futures import Futures
from lib.data.video import Clip, VideoInfo
from lib.errors import UserError
from lib.models.several_frames import SeveralFrames
from lib.presets import frame_pairs
from lib.studies import futures as study
from lib.studies import uncertainty_data as data
from lib.studies.grid import choose, run_folder
from lib.studies.shipped import ship
from lib.studies.table import wide
from lib.studies.uncertainty_data import Split, Study
from lib.tokens.masking import Mask
from lib.tokens.painting import paint_prediction
from lib.tokens.patches import normalize_images, patchify

P, GAPS, AGES = 4, (4, 8, 12, 16), (4, 8, 12)
SHAPE = {"image_size": 16, "patch_size": P, "embed_dim": 16, "depth": 1, "num_heads": 2, "mask_ratio": 0.75}
SHAPE |= {"decoder_embed_dim": 8, "decoder_depth": 1, "decoder_num_heads": 2}
BASE = study.SCALES["toy"]
TRAINED = (*study.FEATURES, *study.PIXELS)


def split_of(past, future, earlier=None) -> Split:
    """Held-out frames as these, with masks always the same; pasts are 16 x 16."""
    ages = AGES if earlier is not None else ()
    futures = Futures(past, future, GAPS[: future.shape[1]], len(past), earlier=earlier, ages=ages)
    return study.own_masks(futures, P, 0.75)


@pytest.fixture
def split() -> Split:
    """Three pasts of noise."""
    torch.manual_seed(0)
    sizes = ((3,), (3, 4), (3, 3))
    return split_of(*(torch.randint(256, (*size, 3, 16, 16), dtype=torch.uint8) for size in sizes))


def tiny(join: str = "memory", **arguments) -> SeveralFrames:
    torch.manual_seed(1)
    model = SeveralFrames(join, **SHAPE, norm_pix=False, **arguments)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


# --- rows and training --------------------------------------------------------------------------------------


def parts(row) -> tuple:
    clips = [Clip(f"{number}.mp4", VideoInfo(75, 30.0, 144, 192)) for number in range(49)]
    return study.parts_of(Study(BASE, Path(), Path(), clips, None, None, Path("frames")), row, 7)


def test_rows_have_names_and_files_of_their_own_and_guesses_are_made_once():
    names = [row.name for row in study.ROWS]
    assert len(set(names)) == len({run_folder(Path(), name, 0) for name in names}) == len(names)
    assert {row.name for row in study.ROWS if row.seeds == 1} == set(study.BASELINES)


@pytest.mark.parametrize("row", TRAINED, ids=lambda row: row.name)
def test_rows_differ_in_their_frames_and_keep_rate_steps_and_predictions(row):
    settings, groups, arguments = parts(row)
    plain = row.settings(BASE)[0]
    assert settings.steps(49) == plain.steps(49) and settings.warmup_steps(49) == plain.warmup_steps(49)
    assert settings.base_lr * settings.batch_size == pytest.approx(plain.base_lr * plain.batch_size)
    predicted = settings.batch_size * groups.futures
    assert predicted == (groups.futures if row.changes.get("as_many") else 1) * plain.batch_size
    changed = {"batch_size", "base_lr", "epochs", "warmup_epochs"}
    assert {name for name, value in asdict(settings).items() if value != asdict(plain)[name]} <= changed
    assert (groups.pasts, groups.futures) == (row.changes.get("pasts", 1), row.changes.get("futures", 1))
    assert (groups.gap, groups.crop_scale, groups.seed) == (plain.gap, plain.crop_scale, 7)
    assert groups.frame_cache == Path("frames") and groups.frame_size == plain.frame_size
    assert arguments.pop("start", None) == row.changes.get("start")
    model = SeveralFrames(**settings.model_arguments(), **arguments)
    expected = {"join": row.changes.get("join", "memory"), "knows_time": row.changes.get("knows_time", True)}
    assert {name: model.architecture[name] for name in expected} == expected
    assert model.norm_pix == row.changes.get("norm_pix", True)


def test_batches_too_small_for_a_row_are_refused():
    (row,) = choose(study.FEATURES, ["8 futures"])
    small = Study(replace(BASE, batch_size=8), Path(), Path(), [], None, None, Path())
    with pytest.raises(UserError, match="batch_size 8.*'8 futures'.*16 or more"):
        study.parts_of(small, row, 0)


# --- predictions --------------------------------------------------------------------------------------------


def slow_patches(model, split, number, pasts, rolled) -> torch.Tensor:
    """Past by past and lot by lot."""
    found = []
    for place in range(len(split.futures.past)):
        mask = Mask(*(part[place] for part in split.mask))
        earlier = dict(zip(split.futures.ages, split.futures.earlier[place], strict=True))
        seen = [(-age, normalize_images(earlier[age])) for age in sorted(earlier, reverse=True)][4 - pasts :]
        seen.append((0, normalize_images(split.futures.past[place])))
        truth, predictions = normalize_images(split.futures.future[place]), []
        for start in range(0, len(GAPS), number):
            now, lot, gaps = seen[-1][0], truth[start : start + number], GAPS[start : start + number]
            ages = torch.tensor([[float(now - time) for time, _ in seen]])
            ahead = torch.tensor([[float(gap - now) for gap in gaps]])
            views = torch.stack([view for _, view in seen])[None]
            masks = Mask(*(part[start : start + number] for part in mask))
            prediction = model.predict(views, ages, lot[None], ahead, masks)[0][0]
            predictions.append(prediction)
            if rolled:
                last = paint_prediction(lot[-1:], prediction[-1:], masks.hidden[-1:], P, norm_pix=False)[0]
                seen = [*seen[1:], (gaps[-1], last)]
        found.append(torch.cat(predictions))
    return torch.stack(found).detach()


@pytest.mark.parametrize("rolled", [False, True])
@pytest.mark.parametrize(("number", "pasts"), [(1, 1), (2, 1), (4, 1), (3, 2), (1, 4), (2, 4)])
def test_predictions_equal_a_slow_loop(split, number, pasts, rolled):
    for join in ("memory", "recurrent"):
        model = tiny(join)
        found = study.predicted_patches(model, split, number, pasts, rolled)
        assert found.shape == (3, 4, 16, P * P * 3)
        expected = slow_patches(model, split, number, pasts, rolled)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


class Drift(torch.nn.Module):
    """Knows one thing: a frame is the last one, brighter by a hundredth a frame."""

    patch_size, norm_pix = P, False

    def __init__(self):
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(1))

    def predict(self, pasts, age, futures, gap, mask):
        frames = pasts[:, -1:] + gap.view(*gap.shape, 1, 1, 1) / 100
        return patchify(frames.flatten(0, 1), P).unflatten(0, gap.shape), mask


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_rolled_steps_add_up_where_nothing_is_known_and_start_from_the_truth_where_it_is(split, number):
    past, truth = normalize_images(split.futures.past), normalize_images(split.futures.future)
    moved = patchify(past, P)  # what the roll-out has of each place: the past, or what was seen since
    direct, rolled = (study.predicted_patches(Drift(), split, number, 1, rolled) for rolled in (False, True))
    for horizon, ahead in enumerate(GAPS):
        from_past = patchify(past + ahead / 100, P)
        torch.testing.assert_close(direct[:, horizon], from_past)
        start = horizon // number * number  # of this lot, which is foretold from the frame before
        since = ahead - (GAPS[start - 1] if start else 0)
        torch.testing.assert_close(rolled[:, horizon], moved + since / 100, rtol=1e-4, atol=1e-5)
        if horizon == start + number - 1:  # the last of the lot: seen where it is seen
            hidden = split.mask.hidden[:, horizon].unsqueeze(-1)
            moved = torch.where(hidden, rolled[:, horizon], patchify(truth[:, horizon], P))


# --- errors and guesses -------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_pix", [False, True])
def test_errors_equal_a_loop_over_hidden_patches(split, norm_pix):
    guesses = torch.randn(3, 4, 16, P * P * 3)
    found = study.errors_of(guesses, split, P, norm_pix)
    truth = normalize_images(split.futures.future)
    for past in range(3):
        for horizon in range(4):
            errors = []
            for patch in split.mask.hidden[past, horizon].nonzero().flatten().tolist():
                row, column = patch // 4 * P, patch % 4 * P
                target = truth[past, horizon, :, row : row + P, column : column + P].permute(1, 2, 0).flatten()
                if norm_pix:
                    target = (target - target.mean()) / (target.var() + 1e-6).sqrt()
                errors.append((guesses[past, horizon, patch] - target).square().mean())
            torch.testing.assert_close(found[past, horizon], torch.stack(errors).mean())
    curve = study.by_horizon("pixels", found, split)
    assert list(curve) == ["pixels +4", "pixels +8", "pixels +12", "pixels +16"]
    assert list(curve.values()) == pytest.approx(found.mean(dim=0).tolist())


def guess_errors(split: Split, name: str) -> torch.Tensor:
    return study.guess_errors(split, name, P, norm_pix=False)


def test_a_copy_is_right_where_nothing_moves(split):
    still = split_of(split.futures.past, split.futures.past[:, None].expand(-1, 4, -1, -1, -1))
    assert guess_errors(still, "copy of the past").max() == 0
    assert guess_errors(split, "copy of the past").min() > 0.5


def test_true_colours_are_right_where_patches_have_one(split):
    squares = torch.randint(256, (3, 4, 3, 4, 4), dtype=torch.uint8)
    flat = split_of(split.futures.past, squares.repeat_interleave(P, dim=-1).repeat_interleave(P, dim=-2))
    assert guess_errors(flat, "true patch colours").max() < 1e-10
    truth = patchify(normalize_images(split.futures.future).flatten(0, 1), P).unflatten(0, (3, 4))
    spread = truth.unflatten(-1, (-1, 3)).var(dim=3, correction=0).mean(dim=-1)  # of each colour within a patch
    hidden = split.mask.hidden
    expected = (spread * hidden).sum(-1) / hidden.sum(-1)
    torch.testing.assert_close(guess_errors(split, "true patch colours"), expected, rtol=1e-4, atol=1e-5)


def test_linear_flow_goes_on_in_proportion_to_the_gap():
    """A soft blob that moves one pixel in four frames."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")

    def blob(time: float) -> torch.Tensor:
        bright = torch.exp(-((y - 16) ** 2 + (x - 12 - time / 4) ** 2) / 40)
        return (40 + 200 * bright).byte().expand(3, -1, -1)

    later = torch.stack([blob(gap) for gap in GAPS])[None]
    moving = Futures(blob(0)[None], later, GAPS, 1, earlier=torch.stack([blob(-age) for age in AGES])[None], ages=AGES)
    truth = normalize_images(later)
    wrong = {
        name: (study.baseline_frames(moving, name, P) - truth).square().mean(dim=(0, 2, 3, 4))
        for name in ("linear flow", "copy of the past")
    }
    assert (wrong["linear flow"] < 0.1 * wrong["copy of the past"]).all()
    still = moving._replace(earlier=moving.past[:, None].expand(-1, 3, -1, -1, -1))
    copies = study.baseline_frames(still, "copy of the past", P)
    torch.testing.assert_close(study.baseline_frames(still, "linear flow", P), copies, rtol=1e-3, atol=1e-3)


def test_the_split_of_one_past_keeps_what_came_before(split):
    one = split.only(2)
    assert torch.equal(one.futures.earlier, split.futures.earlier[2:]) and one.futures.ages == AGES
    model = tiny()
    torch.testing.assert_close(
        study.predicted_patches(model, one, 2, 4), study.predicted_patches(model, split, 2, 4)[2:]
    )


# --- the study ----------------------------------------------------------------------------------------------


@pytest.fixture
def small(tiny_preset, tiny_world, tmp_path, monkeypatch) -> Study:
    monkeypatch.setattr(data, "GAPS", (4, 12))
    monkeypatch.setitem(frame_pairs.VIT_SIZES, "micro", {"embed_dim": 16, "depth": 1, "num_heads": 2})
    preset = replace(tiny_preset, gap=(4, 12), batch_size=8, eval_frames=8, blocks=(-1,))
    return study.study_of(tiny_world, preset, tmp_path / "out", test=2)


def test_masks_are_as_many_as_futures_and_always_the_same(split):
    hidden = split.mask.hidden
    assert hidden.shape == (3, 4, 16) and (hidden.sum(-1) == 12).all()
    assert len({tuple(row.tolist()) for row in hidden.flatten(0, 1)}) > 9
    assert torch.equal(study.own_masks(split.futures, P, 0.75).mask.keep, split.mask.keep)


def test_held_out_clips_with_ages_are_stored_apart_from_those_without(small, tiny_world):
    assert small.test.futures.earlier.shape == (2, 3, 3, 32, 32) and small.test.futures.ages == AGES
    without = data.prepare(tiny_world, small.preset, small.out, test=2)
    assert without.test.futures.ages == () and without.test.futures.earlier.shape[1] == 0
    again = data.prepare(tiny_world, small.preset, small.out, test=2, ages=AGES)
    assert torch.equal(again.test.futures.earlier, small.test.futures.earlier)


def test_every_kind_of_row_is_trained_and_measured(small, tiny_world, monkeypatch):
    monkeypatch.setattr(study, "study_of", lambda *_, **__: small)
    names = ["1 future, gap unknown", "4 pasts, recurrent", "pixels, 1 future", *study.BASELINES]
    table = study.run(tiny_world, small.out, None, choose(study.ROWS, names), seeds=2)
    found = wide(table).set_index("row")
    trained, guessed = found.loc[names[:3]], found.loc[list(study.BASELINES)]
    assert found.groupby(level=0).size().to_dict() == dict.fromkeys(names[:3], 2) | dict.fromkeys(study.BASELINES, 1)
    assert trained["JF_mean"].between(0, 100).all() and trained["mIoU"].between(0, 100).all()
    assert guessed["JF_mean"].isna().all() and guessed["steps"].isna().all()
    for gap in (4, 12):
        known = found[[f"normalised +{gap}", f"pixels +{gap}", f"rolled +{gap}"]].groupby("row").first().notna()
        assert known.loc[names].to_numpy().tolist() == [
            [True, False, False], [True, False, False], [False, True, True],
            [True, True, False], [True, True, False], [False, True, False],
        ]  # fmt: skip
    lengths = [row.length for row in choose(study.ROWS, names[:3])]
    assert trained["steps"].groupby("row").first()[names[:3]].tolist() == [length * small.steps for length in lengths]
    pixels = found.loc["pixels, 1 future"]
    assert (pixels["pixels +4"] == pixels["rolled +4"]).all(), "the first is foretold from the true past"
    assert (pixels["pixels +12"] != pixels["rolled +12"]).all()


def test_committed_weights_serve_for_just_their_run_until_one_is_trained(small, tmp_path):
    (row,) = choose(study.ROWS, ["pixels, 2 futures"])
    run, file, empty = run_folder(small.out, row.name, 0), tmp_path / "shipped.safetensors", tmp_path / "empty"
    trained, losses = study.train_model(small, row, 0, run)
    ship(run, file, "words")
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.copy_(parameter.half())  # as weights are committed
    loaded, curve = study.train_model(replace(small, out=empty), row, 0, run_folder(empty, row.name, 0), file)
    assert curve == losses and not loaded.training and not empty.exists(), "not even its start was trained"
    painted = study.predicted_patches(loaded, small.test, 2, 1)
    assert torch.equal(painted, study.predicted_patches(trained.eval(), small.test, 2, 1))
    for _ in range(2):  # another seed is trained, and then is there
        other, _ = study.train_model(replace(small, out=empty), row, 1, run_folder(empty, row.name, 1), file)
        assert not torch.equal(study.predicted_patches(other, small.test, 2, 1), painted)
    assert (run_folder(empty, row.name, 1) / "last.pt").is_file()


def test_models_of_pixels_start_from_those_of_normalised_patches(small, monkeypatch):
    """With a learning rate of next to nothing they are still them."""
    still = replace(small, preset=replace(small.preset, base_lr=1e-9, weight_decay=0.0))
    first, second = choose(study.ROWS, ["2 futures", "pixels, 2 futures"])
    begun, _ = study.train_model(still, first, 0, run_folder(small.out, first.name, 0))
    went_on, losses = study.train_model(still, second, 0, run_folder(small.out, second.name, 0))
    assert not went_on.norm_pix and len(losses) > 0
    other, _ = study.train_model(still, second, 1, run_folder(small.out, second.name, 1))  # trains what it starts from
    assert (run_folder(small.out, first.name, 1) / "last.pt").is_file()
    for (name, value), theirs, another in zip(
        went_on.named_parameters(), begun.parameters(), other.parameters(), strict=True
    ):
        torch.testing.assert_close(value, theirs, rtol=0, atol=1e-6)
        assert torch.equal(value, another) == bool((value == 0).all() or (value == 1).all()), name
