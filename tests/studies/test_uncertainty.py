"""The study at the size of a thumb: estimators under one mask, held-out clips, every row trained and measured."""

import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

import make
from lib import presets
from lib.errors import UserError
from lib.evaluation.uncertainty_baselines import distance_to_visible
from lib.models.siammae import SiamMAE
from lib.models.uncertainty import DeepEnsemble, MCDropout, SingleModel, VisibleSubsets
from lib.models.variance_heads import GaussianSiamMAE
from lib.presets import frame_pairs
from lib.studies import uncertainty as study
from lib.studies import uncertainty_data as data
from lib.studies import uncertainty_measures as measures
from lib.studies.grid import Row, choose, run_folder
from lib.studies.table import chosen, read_table, wide
from lib.studies.uncertainty_views import future_view
from lib.tokens.patches import normalize_images, normalize_patches, patchify
from lib.toyworld import ToyWorldOptions, ensure_toy_world
from tests.make_videos import write_numbered

WORLD = ToyWorldOptions(
    datasets=("kinetics400", "davis2017"), kinetics_train=3, kinetics_val=1, kinetics_frames=60, height=96, width=128,
    davis_train=0, davis_val=1, davis_frames=30,
)  # fmt: skip
PRESET = presets.get(
    presets.SIAMMAE, "toy", image_size=32, patch_size=8, decoder_embed_dim=16, decoder_depth=1, decoder_num_heads=2,
    mask_ratio=0.75, batch_size=4, epochs=2, warmup_epochs=0, frame_size=96, eval_size=(32, 64), blocks=(-1,),
    gap=(4, 8),
)  # fmt: skip
GAPS = (4, 8, 12)
SMALL = {"embed_dim": 16, "depth": 1, "num_heads": 2}
MEASURED = make.ROOT / "figures" / "measured" / "uncertainty.csv"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return ensure_toy_world(tmp_path_factory.mktemp("toy") / "world", WORLD, workers=1)


@pytest.fixture(scope="module", autouse=True)
def few_gaps():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "GAPS", GAPS)
        yield


@pytest.fixture(scope="module")
def rendered(world, tmp_path_factory):
    """A folder with the held-out clips alone: they are made once."""
    return data.prepare(world, PRESET, tmp_path_factory.mktemp("runs"), test=6).out


@pytest.fixture
def small(world, rendered, tmp_path, monkeypatch) -> data.Study:
    monkeypatch.setitem(frame_pairs.VIT_SIZES, "micro", SMALL)
    shutil.copytree(rendered, tmp_path / "runs")
    return data.prepare(world, PRESET, tmp_path / "runs", test=6)


def models() -> tuple[GaussianSiamMAE, ...]:
    found = []
    for seed in range(2):
        torch.manual_seed(seed)
        found.append(GaussianSiamMAE(**(PRESET.model_arguments() | SMALL), dropout=0.3).eval())
    return tuple(found)


def plain() -> SiamMAE:
    torch.manual_seed(0)
    return SiamMAE(**(PRESET.model_arguments() | SMALL)).eval()


# --- measures -----------------------------------------------------------------------------------------------


def test_splits_are_kept_apart_and_the_same_again(small, world):
    again = data.prepare(world, PRESET, small.out, test=6)
    for one, two in ((small.test, again.test), (small.calibration, again.calibration)):
        assert torch.equal(one.futures.past, two.futures.past) and torch.equal(one.mask.hidden, two.mask.hidden)
    other = data.prepare(world, replace(PRESET, patch_size=4), small.out, test=6)
    assert other.test.futures.occluded.shape == (6, 3, 64), "cached clips of other sizes are not mistaken for these"
    assert small.test.futures.clips == 6 and small.calibration.futures.clips == 3
    assert not torch.equal(small.test.futures.past[:3], small.calibration.futures.past)
    assert small.gaps == [0, 1] and small.test.futures.gaps == GAPS
    assert (small.test.mask.hidden.sum(1) == 12).all() and small.test.mask.hidden.unique(dim=0).shape[0] > 1


def test_estimates_are_the_hidden_patches_of_each_pair_in_order(small):
    model = models()[0]
    found = measures.estimate(SingleModel(model), small.test, [0, 2])
    assert found.target.shape == found.mean.shape == found.variance.shape == (12, 12, 192)
    for past in range(6):
        mask = small.test.only(past).mask
        for place, gap in enumerate((0, 2)):
            frames = [normalize_images(small.test.futures.past[past : past + 1])]
            frames.append(normalize_images(small.test.futures.future[past : past + 1, gap]))
            distance = torch.tensor([float(small.test.futures.gaps[gap])])
            alone = SingleModel(model).predict(*frames, mask, distance)
            hidden = mask.hidden[0]
            torch.testing.assert_close(found.mean[2 * past + place], alone.mean[0, hidden], atol=1e-5, rtol=1e-4)
            expected = alone.total[0, hidden] + measures.FLOOR
            torch.testing.assert_close(found.variance[2 * past + place], expected, atol=1e-5, rtol=1e-4)
            target = normalize_patches(patchify(frames[1], 8))[0, hidden]
            torch.testing.assert_close(found.target[2 * past + place], target)


def test_a_model_without_variance_gets_a_constant(small):
    found = measures.estimate(SingleModel(plain()), small.test, [0])
    assert (found.variance == 1).all() and found.mean.std() > 0


@pytest.mark.parametrize("build", [MCDropout, VisibleSubsets, lambda model: DeepEnsemble([model, models()[1]])])
def test_estimators_that_draw_repeat_themselves_and_leave_the_generator_alone(small, build):
    estimator = build(models()[0])
    state = torch.get_rng_state()
    one, two = (measures.predict(estimator, small.test, 1) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True)) and one.epistemic.max() > 0
    assert torch.equal(state, torch.get_rng_state())


def test_the_epistemic_part_is_that_of_the_two_parts(small):
    one, two = models()
    found = measures.predict(DeepEnsemble([one, two]), small.test, 0)
    hidden = small.test.mask.hidden
    expected = found.epistemic[hidden].mean() / (found.epistemic[hidden] + found.aleatoric[hidden]).mean()
    assert measures.epistemic_part(DeepEnsemble([one, two]), small.test, [0]) == pytest.approx(float(expected))
    assert measures.epistemic_part(SingleModel(one), small.test, [0]) == 0
    assert measures.epistemic_part(SingleModel(plain()), small.test, [0]) == 0


def test_baselines_keep_the_mean_and_know_the_mask(small):
    base = measures.estimate(SingleModel(models()[0]), small.test, small.gaps)
    found = {name: measures.with_baseline(base, small.test, small.gaps, name) for name in measures.BASELINES}
    for estimate in found.values():
        assert torch.equal(estimate.mean, base.mean) and estimate.variance.shape == base.variance.shape
        assert estimate.variance.std(dim=2).max() == 0
    assert found["constant sigma"].variance.unique().numel() == 1
    distance = distance_to_visible(small.test.mask.hidden, (4, 4))
    expected = distance[small.test.mask.hidden].view(6, 12).square() + measures.FLOOR
    torch.testing.assert_close(found["distance to visible"].variance[1::2, :, 0], expected)
    neighbours = found["visible neighbours"].variance[..., 0]
    assert not torch.equal(neighbours[0::2], neighbours[1::2]), "the visible pixels of another future are others"


def test_what_was_revealed_is_that_of_the_hidden_patches(small):
    shares = measures.revealed(small)
    hidden = small.test.mask.hidden
    for past in range(6):
        for gap in range(2):
            futures = small.test.futures
            occluded, outside = (part[past, gap, hidden[past]] for part in (futures.occluded, futures.outside))
            torch.testing.assert_close(shares["unseen"][2 * past + gap], occluded + outside)
            known = outside < 0.5
            torch.testing.assert_close(shares["occluded"][2 * past + gap][known], occluded[known])
            assert shares["occluded"][2 * past + gap][~known].isnan().all()
            told = shares["occluded_or_seen"][2 * past + gap]
            clear = known & ((occluded >= 0.5) | (occluded + outside <= 0.05))
            torch.testing.assert_close(told[clear], occluded[clear])
            assert told[~clear].isnan().all()
    blind = small.test._replace(futures=small.test.futures._replace(occluded=None, outside=None))
    assert measures.revealed(replace(small, test=blind)) == {}


def test_growth_and_views_tell_of_the_same_numbers(small):
    model = models()[0]
    growth = measures.by_gap(SingleModel(model), small.test)
    assert all(part.shape == (6, 3) for part in growth.values())
    single = measures.estimate(SingleModel(model), small.test, [1])
    error = (single.target - single.mean).double().square().flatten(1).mean(1)
    torch.testing.assert_close(growth["squared_error"][:, 1], error)
    view = future_view(SingleModel(model), small.test, 2, range(3))
    assert view.maps["sigma"].shape == view.maps["error"].shape == (3, 4, 4)
    assert np.array_equal(np.isnan(view.maps["error"][0]), ~small.test.mask.hidden[2].view(4, 4).numpy())
    assert np.nanmean(view.maps["error"][1] ** 2) == pytest.approx(float(error[2]), rel=1e-4)


# --- data and training --------------------------------------------------------------------------------------


def test_real_videos_are_shared_out_without_overlap(tmp_path):
    for number in range(8):
        write_numbered(tmp_path / f"clip{number}.mp4", 60, 30, preset="ultrafast")
    found = data.prepare(tmp_path, PRESET, tmp_path / "runs")
    assert len(found.clips) == 4 and found.test.futures.clips == found.calibration.futures.clips == 2
    assert len(found.test.futures.past) == 2 * data.REAL_DRAWS and found.test.futures.occluded is None
    parts = [{clip.path.stem for clip in part} for part in data.held_out_videos(tmp_path)]
    assert set.union(*parts) == {f"clip{number}" for number in range(8)} and sum(map(len, parts)) == 8
    assert {clip.path.stem for clip in found.clips} == parts[0]
    (tmp_path / "clip7.mp4").unlink()
    with pytest.raises(UserError, match="8 in all"):
        data.held_out_videos(tmp_path)


@pytest.mark.parametrize("row", study.MODELS, ids=lambda row: row.name)
def test_every_row_trains_and_is_measured(small, row):
    folder = run_folder(small.out, row.name, 0)
    model, losses = study.train_model(small, row, 0, folder)
    assert len(losses) == row.length * small.steps == row.length * 4 and not model.training
    assert isinstance(model, row.model or GaussianSiamMAE)
    if row.changes.get("order") == "curriculum":
        assert model.direction() == -1, "it has come to its end"
    found = measures.report_of(SingleModel(model), small).row
    assert all(np.isfinite(value) for name, value in found.items() if not name.startswith("auroc"))
    again, _ = study.train_model(small, row, 0, folder)
    for model_again in (again, study.trained(small, row, 0)):
        for one, two in zip(model.parameters(), model_again.parameters(), strict=True):
            assert torch.equal(one, two)


def test_the_detached_head_leaves_the_mean_as_plain_training_has_it(small):
    """The same seed, data and masks: what plain SiamMAE learns is learned to the last bit, up to rounding."""
    (detached,) = choose(study.MODELS, ["beta 1, head detached"])
    without, _ = study.train_model(small, study.PLAIN, 0, small.out / "a")
    headed, _ = study.train_model(small, detached, 0, small.out / "b")
    for name, value in without.encoder.state_dict().items():
        torch.testing.assert_close(headed.encoder.state_dict()[name], value, atol=1e-5, rtol=1e-4)


# --- the study ----------------------------------------------------------------------------------------------


def test_names_are_those_of_rows():
    names = {row.name for row in study.ROWS}
    wanted = {*study.HEADS, *study.MASKINGS, *study.ESTIMATORS, *study.WEIGHTINGS, *measures.BASELINES}
    assert names == wanted and len({run_folder(make.ROOT, name, 0) for name in names}) == len(study.ROWS)
    assert [row.name for row in study.ROWS if row.stage] == [
        *study.ESTIMATORS, *measures.BASELINES, *study.WEIGHTINGS,
    ]  # fmt: skip


def test_the_committed_rows_are_those_of_the_study():
    lines = wide(read_table(MEASURED))
    assert set(lines["row"]) == {row.name for row in study.ROWS} and len(lines) == 32 + 7 + 9
    for row in study.ROWS:
        seeds = {study.DEFAULT.name: 5}.get(row.name, 3 if row.seeds is None else 1)
        assert lines.loc[lines["row"] == row.name, "seed"].tolist() == list(range(seeds))
    heads = chosen(lines, study.HEADS)
    assert list(dict.fromkeys(heads["case"])) == list(study.HEADS) and heads["spearman"].notna().all()
    assert set(chosen(lines, study.MASKINGS, seeds=3).groupby("case").size()) == {3}


def test_the_study_makes_its_rows_in_stages(small, world, monkeypatch):
    wanted = [
        "beta 0.5", "plain SiamMAE", "dropout 0.1", *study.ESTIMATORS, *measures.BASELINES, "shuffled, s = 4",
    ]  # fmt: skip
    monkeypatch.setitem(presets.SIAMMAE, "toy", PRESET)
    monkeypatch.setattr(study, "prepare", partial(data.prepare, test=6))
    table = study.run(world, small.out, 1.0, rows=choose(study.ROWS, wanted), seeds=2)
    lines = wide(table)
    assert lines.groupby("row", sort=False).size().to_dict() == dict.fromkeys(wanted, 1) | {
        "beta 0.5": 5, "plain SiamMAE": 2, "shuffled, s = 4": 2,
    }  # fmt: skip
    assert lines.loc[lines["row"] == "beta 0.5", "steps"].tolist() == [2] * 5
    without = lines[lines["row"] == "plain SiamMAE"]
    assert (without["gap_kendall"] == 0).all() and (without["sigma_first_gap"] == 1).all(), (
        "what states none is constant"
    )
    ensemble, members = (lines[lines["row"] == name] for name in (study.ENSEMBLE, "beta 0.5"))
    expected = ensemble["nll_raw"].item() - members["nll_raw"].min()
    assert ensemble["nll_against_best"].item() == pytest.approx(expected, abs=1e-3)
    assert lines.set_index("row").loc[["beta 0.5", "shuffled, s = 4"], "JF_block-1"].between(0, 100).all()
    guesses = lines[lines["row"].isin(measures.BASELINES)]
    assert guesses["nll"].notna().all() and guesses["epistemic_share"].isna().all() and guesses["steps"].isna().all()


def test_an_estimator_needs_its_models(small, world):
    with pytest.raises(UserError, match=r"dropout_0.1-seed0.*does not exist"):
        study.measure_row(small, Row("MC dropout"), 0, small.out / "x")


def test_shuffled_confidences_are_the_same_numbers_elsewhere():
    cells = torch.arange(12.0).view(3, 4) / 12
    found = list(study.shuffled(lambda frames: (cells for _ in frames), range(3)))
    assert all(torch.equal(moved.flatten().sort().values, cells.flatten()) for moved in found)
    assert any(not torch.equal(moved, cells) for moved in found)
