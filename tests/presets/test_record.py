"""Presets of every kind: one check for names, types and values, one comparison, a folder for each run."""

from dataclasses import FrozenInstanceError, fields, replace

import pytest

import make
from lib.errors import UserError
from lib.presets import ADAMAE, FINE_TUNING, MAE, SIAMMAE, compare, get, run_name

FAMILIES = {"siammae": SIAMMAE, "mae": MAE, "adamae": ADAMAE, "fine-tuning": FINE_TUNING}
NAMED = [(family, name) for family, presets in FAMILIES.items() for name in presets]


@pytest.mark.parametrize(("family", "name"), NAMED)
def test_every_preset_gives_a_run_with_a_warmup(family, name):
    preset = get(FAMILIES[family], name)
    assert preset == FAMILIES[family][name]
    for clips in (1, 64, 240_000):
        assert 1 <= preset.warmup_steps(clips) <= preset.steps(clips)


@pytest.mark.parametrize("name", ["toy", "laptop", "colab", "paper"])
def test_every_preset_of_the_demo_exists_for_every_system(name):
    assert name in make.OPTIONS["preset"][1]
    assert all(name in family for family in FAMILIES.values())
    given = [make.parameters(path)["preset"] for path in make.notebooks()]
    assert given == ["toy"] * len(given)  # each notebook takes one


def test_steps_and_warmup_by_hand():
    preset = replace(SIAMMAE["paper"], epochs=100, repeated_sampling=2, batch_size=64, warmup_epochs=5)
    assert preset.steps(320) == 1000  # 100 epochs * 320 clips * 2 pairs / 64
    assert preset.warmup_steps(320) == 50
    assert preset.steps(10) == 31  # 31.25
    assert preset.warmup_steps(10) == 2  # 1.55, rounded up
    assert replace(preset, epochs=0.001).steps(10) == 1
    assert replace(preset, warmup_epochs=0).warmup_steps(320) == 0
    # The paper's: 240,436 clips, 40 of 2000 epochs.
    assert SIAMMAE["paper"].steps(240_436) == 469_602 and SIAMMAE["paper"].warmup_steps(240_436) == 9393
    assert ADAMAE["paper"].steps(168_913) == round(800 * 168_913 / 256)


def test_a_shortened_run_has_a_shortened_warmup():
    toy = SIAMMAE["toy"]
    assert get(SIAMMAE, "toy", epochs=24).warmup_epochs == toy.warmup_epochs * 24 / toy.epochs
    assert get(SIAMMAE, "toy", epochs=24, warmup_epochs=3).warmup_epochs == 3
    assert get(SIAMMAE, "toy", epochs=2 * toy.epochs).warmup_epochs == toy.warmup_epochs


def test_near_misses_are_named():
    with pytest.raises(UserError, match="'toi': did you mean 'toy'"):
        get(SIAMMAE, "toi")
    with pytest.raises(UserError, match="'epoch': did you mean 'epochs'"):
        get(ADAMAE, "toy", epoch=3)
    with pytest.raises(UserError, match="'qqq': choose one of "):
        get(FINE_TUNING, "qqq")


def test_overrides():
    assert get(SIAMMAE, "toy", epochs=None, base_lr=None) == SIAMMAE["toy"]
    assert get(SIAMMAE, "toy", epochs=3).epochs == 3 and SIAMMAE["toy"].epochs != 3
    from_json = get(SIAMMAE, "toy", blocks=[1, 2], gap=[4, 8])
    assert from_json.blocks == (1, 2) and from_json.gap == (4, 8)
    assert hash(from_json) == hash(get(SIAMMAE, "toy", blocks=(1, 2), gap=(4, 8)))
    with pytest.raises(FrozenInstanceError):
        from_json.epochs = 4


@pytest.mark.parametrize(
    ("family", "settings", "words"),
    [
        ("siammae", {"epochs": 0}, "epochs is 0"),
        ("siammae", {"batch_size": -4}, "batch_size is -4"),
        ("siammae", {"base_lr": float("nan")}, "base_lr is nan"),
        ("siammae", {"epochs": "ten"}, "epochs is 'ten': .* a number"),
        ("adamae", {"save_every": "5"}, "save_every is '5': .* a whole number"),
        ("adamae", {"batch_size": 64.5}, "batch_size is 64.5: .* a whole number"),
        ("adamae", {"stride": 0}, "stride is 0"),
        ("siammae", {"norm_pix": 1}, "norm_pix is 1: .* True or False"),
        ("siammae", {"gap": [1, 2, 3]}, "gap is .1, 2, 3."),
        ("siammae", {"gap": 4}, "gap is 4"),
        ("siammae", {"gap": [4, "x"]}, "gap is 'x'"),
        ("siammae", {"frame_size": 1.5}, "frame_size is 1.5: .* a whole number or None"),
        ("siammae", {"batch_size": 63}, "63 is no multiple of .* 2"),
        ("siammae", {"batch_size": 64, "accumulation": 5}, "64 is no multiple of .* 10"),
        ("siammae", {"warmup_epochs": -1}, "warmup_epochs is -1"),
        ("fine-tuning", {"drop_path": 1.5}, "drop_path 1.5 is outside"),
        ("fine-tuning", {"mixup": -1.0}, "mixup -1.0"),
        ("fine-tuning", {"batch_size": 5}, "batch_size 5 is odd"),
    ],
)
def test_values_that_cannot_work_are_refused_in_one_line(family, settings, words):
    with pytest.raises(UserError, match=words) as caught:
        get(FAMILIES[family], "toy", **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_presets_side_by_side(family):
    rows = compare(FAMILIES[family], "toy", "paper")
    settings = {field.name for field in fields(FAMILIES[family]["toy"])}
    assert {row["setting"] for row in rows} == settings and len(rows) == len(settings)
    (batch,) = [row for row in rows if row["setting"] == "batch_size"]
    assert batch["paper"] == FAMILIES[family]["paper"].batch_size and set(batch) == {"setting", "toy", "paper"}
    with pytest.raises(UserError, match="unknown preset 'pepper'"):
        compare(FAMILIES[family], "toy", "pepper")


def test_runs_with_other_weights_never_share_a_folder():
    def folder(**overrides) -> str:
        return run_name("siammae", SIAMMAE, "toy", get(SIAMMAE, "toy", **overrides), overrides.get("seed", 0))

    assert folder() == "siammae-seed0"
    assert folder(epochs=2, gap=[4, 8]) == "siammae-epochs2-gap4,8-seed0"
    assert folder(epochs=2, warmup_epochs=1) not in (folder(epochs=2), folder(warmup_epochs=1))
    assert folder(norm_pix=False) == "siammae-norm_pixFalse-seed0"
    same = {"protocol": "cropmae", "eval_size": [3, 4], "blocks": [1], "workers": 3, "save_every": 7}
    assert folder(**same) == folder()  # what changes no weights
