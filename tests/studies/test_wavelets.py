"""The study of wavelets on pictures: what rows differ in, reconstructions of hidden patches, whole cells, the table."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lib import presets
from lib.data.cifar import LabelledPictures
from lib.errors import UserError
from lib.models.mae import MAE
from lib.models.wavelet_mae import WaveletMAE
from lib.presets.pictures import CIFAR, CIFAR_FINE_TUNING
from lib.studies import wavelets as study
from lib.studies.grid import choose
from lib.studies.table import read_table, wide
from lib.toyworld import ToyWorldOptions, ensure_toy_world

BASE = presets.get(
    CIFAR, "toy", image_size=16, embed_dim=16, depth=1, num_heads=2, decoder_embed_dim=8, decoder_depth=1,
    decoder_num_heads=2, batch_size=8, epochs=0.5,
)  # fmt: skip
TUNING = presets.get(CIFAR_FINE_TUNING, "toy", epochs=0.3, batch_size=8, labelled=20, probed=20)
NAMES = [row.name for row in study.ROWS]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    options = ToyWorldOptions(datasets=("cifar10",), batch_pictures=20)
    return ensure_toy_world(tmp_path_factory.mktemp("wavelets") / "world", options, workers=1)


def of(name: str, seed: int = 0) -> tuple:
    return study.parts_of(BASE, TUNING, *choose(study.ROWS, [name]), seed)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_is_what_its_name_says(name):
    settings, tuning, model = of(name)
    wavelets = isinstance(model, WaveletMAE)
    plain = name.split(",")[0] in ("MAE", "report's MAE")
    assert wavelets is not plain
    if wavelets:
        shape = model.architecture
        layout = "scatter" if "scatter" in name else "cell" if "cell" in name else "pseudo_grid"
        layout = "scatter" if name == "wavelets, untrained" else layout
        assert shape["token_layout"] == layout and shape["beside"] is ("report" in name)
        assert shape["transform"] == ("regroup" if "no wavelets" in name else "haar")
        assert shape["norm"] == ("batch" if "report" in name else "layer")
    assert ("reported" in model.architecture) is ("report" in name)
    assert (model.masking.architecture["name"] == "CellMasking") is ("cell" in name)
    assert (settings.warmup_epochs == 0.8 * settings.epochs) is ("warm-up" in name or "its rate" in name)
    assert (settings.batch_size == tuning.batch_size == 16) is ("its rate" in name)
    assert (tuning.layer_decay == 1) is ("untrained" in name and "its rate" not in name)
    assert (len(model.encoder.blocks) == 7) is ("7 blocks" in name)


def test_rows_of_one_seed_start_alike_and_those_of_others_do_not():
    def weights(name: str, seed: int) -> torch.Tensor:
        return of(name, seed)[2].encoder.patch_embed.proj.weight

    assert torch.equal(weights("MAE", 0), weights("MAE, cells masked", 0))
    assert not torch.equal(weights("MAE", 0), weights("MAE", 1))


class Oracle(MAE):
    """Knows the truth of hidden patches, and paints those that it is shown black."""

    def predict(self, images, mask=None):
        truth = images.unfold(2, self.patch_size, self.patch_size).unfold(3, self.patch_size, self.patch_size)
        patches = truth.permute(0, 2, 3, 4, 5, 1).flatten(1, 2).flatten(2)  # (B, N, P*P*3)
        self.seen.append(~mask.hidden)
        return patches * mask.hidden.unsqueeze(-1), mask


@pytest.mark.parametrize("masking", [None, "cell"])
def test_every_patch_of_a_reconstruction_was_hidden(masking):
    kind = choose(study.ROWS, ["MAE, cells masked" if masking else "MAE"])[0]
    model = Oracle(**BASE.model_arguments())
    model.masking = study.parts_of(BASE, TUNING, kind, 0)[2].masking
    model.seen = []
    images = torch.randn(3, 3, 16, 16)
    torch.testing.assert_close(study.hidden_pictures(model, images), images)
    shown = torch.stack(model.seen)  # four lots, each patch in one
    assert len(shown) == 4 and (shown.sum(dim=0) == 1).all() and (shown.sum(dim=2) == 4).all()
    again = torch.stack(model.seen)
    study.hidden_pictures(model, images)
    assert torch.equal(torch.stack(model.seen[4:]), again), "the same lots each time"


def test_a_ratio_that_leaves_no_whole_lots_is_refused():
    model = MAE(**{**BASE.model_arguments(), "mask_ratio": 0.8})
    with pytest.raises(UserError, match="16 patches are no whole lots of 3"):
        study.hidden_pictures(model, torch.randn(1, 3, 16, 16))


def test_perfect_and_grey_predictions_have_the_details_that_they_should():
    model = Oracle(**BASE.model_arguments())
    model.seen = []
    rng = np.random.default_rng(0)
    test = LabelledPictures(
        rng.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8), np.arange(6), tuple("abcdef"), "made up"
    )
    perfect = study.details(model, test)
    assert perfect["error"] == pytest.approx(0, abs=1e-10) and perfect["sharpness"] == pytest.approx(1, rel=1e-5)
    rings = [f"{name} {ring}" for name in ("power", "agreement") for ring in range(1, 9)]
    assert [perfect[ring] for ring in rings] == pytest.approx([1.0] * 16, rel=1e-4)
    model.predict = lambda images, mask: (torch.zeros(len(images), 16, 48), mask)
    grey = study.details(model, test)
    assert grey["sharpness"] == pytest.approx(0, abs=1e-10) and grey["error"] > 0.5
    assert [grey[ring] for ring in rings] == pytest.approx([0.0] * 16, abs=1e-10)


def test_cells_are_made_once_and_say_all_that_the_table_needs(world, tmp_path, monkeypatch):
    monkeypatch.setitem(study.CIFAR, "toy", BASE)
    monkeypatch.setitem(study.CIFAR_FINE_TUNING, "toy", TUNING)
    rows = choose(study.ROWS, ["MAE", "report's wavelets", "wavelets, untrained"])
    table = study.run(world, tmp_path, None, rows, seeds=1)
    lines = wide(table).set_index("row")
    assert list(lines.index) == [row.name for row in rows]
    assert lines["accuracy"].between(0, 100).all() and lines["probe"].between(0, 100).all()
    trained = lines.loc[["MAE", "report's wavelets"]]
    rings = [f"{name} {ring}" for name in ("power", "agreement") for ring in range(1, 9)]
    assert trained[[*rings, "error", "sharpness", "epoch seconds"]].notna().all(axis=None)
    assert lines.loc["wavelets, untrained", rings].isna().all() and lines.loc["wavelets, untrained", "steps"] == 0
    assert lines.loc["MAE", "steps"] == BASE.steps(100)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells"], "weights are deleted"
    again = study.run(world, tmp_path, None, rows, seeds=1)
    assert again.equals(table)


@pytest.mark.parametrize("name", ["wide", "report"])
def test_the_large_presets_start(world, tmp_path, name):
    """At their own size of pictures, narrower and for a few steps."""
    small = {"embed_dim": 16, "depth": 1, "num_heads": 2, "decoder_embed_dim": 16, "decoder_depth": 1, "workers": 0}
    base = presets.get(CIFAR, name, **small, decoder_num_heads=2, epochs=0.05, batch_size=4)
    tuning = presets.get(CIFAR_FINE_TUNING, name, labelled=20, probed=20, epochs=0.3, batch_size=4, workers=0)
    train, test = study.read_splits(world / "cifar10")
    splits = train, test._replace(images=test.images[:10], labels=test.labels[:10])
    row = choose(study.ROWS, ["report's wavelets"])[0]
    values = {one["metric"]: one["value"] for one in study.measure_row(base, tuning, splits, row, 0, tmp_path / "run")}
    assert values[f"agreement {base.image_size // 2}"] is not None and 0 <= values["accuracy"] <= 100


def test_the_same_cell_comes_out_the_same(world, tmp_path):
    splits = study.read_splits(world / "cifar10")
    row = choose(study.ROWS, ["wavelets, scatter"])[0]
    found = [study.measure_row(BASE, TUNING, splits, row, 3, tmp_path / name) for name in "ab"]
    values = [{one["metric"]: one["value"] for one in part if one["metric"] != "epoch seconds"} for part in found]
    assert values[0] == values[1]


def test_a_fine_tuned_encoder_learns_the_labels_it_is_given(tmp_path):
    """Two colours, fine-tuned from scratch."""
    torch.manual_seed(0)
    rng = np.random.default_rng(1)
    labels = np.arange(40) % 2
    images = np.clip(rng.normal(60 + 120 * labels[:, None, None, None], 20, (40, 16, 16, 3)), 0, 255).astype(np.uint8)
    pictures = LabelledPictures(images, labels, ("dark", "bright"), "made up")
    settings = replace(TUNING, epochs=8, base_lr=0.3, label_smoothing=0.0, drop_path=0.0)
    model = MAE(**BASE.model_arguments())
    assert study.probe(model.eval(), pictures, pictures) == 100
    assert study.finetune(model, settings, pictures, pictures, 0, tmp_path / "tuned") > 90


def test_the_committed_table_is_of_rows_that_can_be_made():
    lines = wide(read_table("figures/measured/wavelets.csv"))
    assert set(lines["row"]) <= set(NAMES)
    assert (lines.groupby("row")["seed"].nunique() == 3).all()
