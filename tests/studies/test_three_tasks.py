"""The three tasks from data and encoders to rows of scores: what is scored, with which weights, and that it is so."""

import os
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from make_davis import make_davis, moving_squares
from make_jhmdb import make_jhmdb
from make_vip import make_vip, people
from torch import nn

from lib import presets
from lib.errors import UserError
from lib.evaluation.features import rgb_patch_features
from lib.evaluation.masks import propagate_masks
from lib.models.mae import MAE
from lib.models.siammae import SiamMAE
from lib.runtime import seed_everything
from lib.score.davis import score_davis
from lib.score.jhmdb import score_jhmdb
from lib.score.vip import score_vip
from lib.studies import three_tasks
from lib.studies.three_tasks import COPIED, RGB, UNTRAINED, Method


@pytest.fixture
def data(tmp_path):
    """All three tasks: two sequences, of one and of two objects that do not move; a person; three clips of joints."""
    still = {f"still{n}": moving_squares(n, 1).repeat(5, axis=0) for n in (1, 2)}
    make_davis(tmp_path / "data" / "davis2017", still)
    make_vip(tmp_path / "data" / "vip", {"video": people()})
    make_jhmdb(tmp_path / "data" / "jhmdb")
    return tmp_path / "data"


@pytest.fixture
def settings(tiny_preset):
    return replace(tiny_preset, eval_size=(40, 64), part_size=None, protocol="crw", blocks=(2, -1))


def save(model: nn.Module, folder):
    folder.mkdir()
    state = {"model": model.state_dict(), "architecture": model.architecture, "step": 1}
    torch.save(state, folder / "last.pt")
    return folder


# --- Scores ---


def test_scores_are_those_of_the_commands_on_what_was_written(data, settings, tmp_path):
    tasks, methods = three_tasks.open_tasks(data), three_tasks.methods_of({}, settings)
    sizes = {"davis": (40, 64), "vip": (24, 32), "jhmdb": (24, 40)}
    protocols = {
        task: replace(protocol, input_size=sizes[task]) for task, protocol in three_tasks.protocols_of(settings).items()
    }
    scores = three_tasks.score_methods(tasks, methods, protocols, tmp_path / "out", max_frames=4)
    folders = {task: tmp_path / "out" / task / methods[RGB].folder for task in tasks}
    assert scores["davis"][RGB] == score_davis(data / "davis2017", folders["davis"], max_frames=4)
    assert scores["vip"][RGB] == score_vip(data / "vip", folders["vip"])
    assert scores["jhmdb"][RGB] == score_jhmdb(data / "jhmdb", folders["jhmdb"])
    table = three_tasks.score_table(scores).set_index("method")
    assert list(table.index) == [COPIED, RGB]
    assert table.loc[COPIED, "JF_mean"] == 100, "what does not move is where it was"
    assert table.loc[RGB, "mIoU"] == 100 * scores["vip"][RGB]["mIoU"]
    assert table["lost joints, %"].between(0, 100).all()


def test_a_task_without_data_or_protocol_is_left_out(data, settings, tmp_path):
    assert set(three_tasks.protocols_of(replace(settings, protocol="dino"))) == {"davis"}
    with pytest.raises(UserError, match="crw"):
        three_tasks.protocols_of(replace(settings, protocol="crv"))
    assert set(three_tasks.open_tasks(data)) == {"davis", "vip", "jhmdb"}
    tasks = three_tasks.open_tasks(data, wanted=["davis"])
    methods = three_tasks.methods_of({}, settings)
    scores = three_tasks.score_methods(tasks, methods, three_tasks.protocols_of(settings), tmp_path / "out")
    table = three_tasks.score_table(scores)
    assert list(table) == ["method", *three_tasks.MEASURES["davis"]]


def test_features_are_those_of_the_block(data, settings, tmp_path):
    """Against the propagation itself, called by hand."""
    seed_everything(5)
    encoder = SiamMAE(**settings.model_arguments()).encoder.eval()
    davis = three_tasks.open_tasks(data, wanted=["davis"])["davis"]
    protocol = three_tasks.protocols_of(settings)["davis"]
    method = three_tasks.methods_of({UNTRAINED: encoder}, settings)[f"{UNTRAINED}, block 2"]
    score = three_tasks.evaluate(method, "davis", davis, protocol, tmp_path)
    video = davis.sequences[1]
    masks = propagate_masks(video.iter_frames(), video.mask(0), partial(encoder.features, block=2), 8, protocol)
    truth, predicted = video.masks()[1:-1], np.stack(list(masks))[1:-1]
    for index, values in score["sequences"]["still2"].items():
        mine, theirs = predicted == int(index), truth == int(index)
        iou = (mine & theirs).sum((1, 2)) / (mine | theirs).sum((1, 2))
        assert values["J_mean"] == pytest.approx(iou.mean())


def test_predictions_of_files_that_were_replaced_are_not_kept(data, settings, tmp_path):
    root = shutil.copytree(data, tmp_path / "copy")
    protocol = three_tasks.protocols_of(settings)["davis"]
    method = three_tasks.methods_of({}, settings)[COPIED]

    def written() -> dict[str, int]:
        davis = three_tasks.open_tasks(root, wanted=["davis"])["davis"]
        three_tasks.evaluate(method, "davis", davis, protocol, tmp_path / "out")
        folders = (tmp_path / "out" / method.folder).iterdir()
        return {folder.name: folder.stat().st_mtime_ns for folder in folders if folder.is_dir()}

    before = written()
    assert written() == before
    frame = next((root / "davis2017" / "JPEGImages").rglob("*.jpg"))
    os.utime(frame, (1e9, 1e9))
    again = written()
    assert set(again) == set(before) and not set(again.values()) & set(before.values())
    mask = sorted((root / "davis2017" / "Annotations").rglob("*.png"))[0]
    os.utime(mask, (1e9, 1e9))
    assert not set(written().values()) & set(again.values())


def test_one_encoders_scores_are_those_of_its_blocks(data, settings, tmp_path):
    seed_everything(5)
    encoder, settings = SiamMAE(**settings.model_arguments()).encoder.eval(), replace(settings, part_size=(24, 32))
    tasks = three_tasks.open_tasks(data, wanted=["davis", "vip"])
    found = three_tasks.scores_of(encoder, tasks, settings, tmp_path / "one")
    methods = three_tasks.methods_of({"SiamMAE": encoder}, settings)
    scores = three_tasks.score_methods(tasks, methods, three_tasks.protocols_of(settings), tmp_path / "all")
    table = three_tasks.score_table(scores).set_index("method")
    measures = [*three_tasks.MEASURES["davis"], *three_tasks.MEASURES["vip"]]
    assert set(found) == {f"{name}{words}" for name in measures for words in ("", ", block 2")}
    for name in measures:
        assert found[name] == table.loc["SiamMAE, block 4", name]
        assert found[f"{name}, block 2"] == table.loc["SiamMAE, block 2", name]
    alone = three_tasks.scores_of(encoder, tasks, replace(settings, protocol="dino", blocks=(-1,)), tmp_path / "dino")
    assert set(alone) == set(three_tasks.MEASURES["davis"]), "which its protocol defines alone"


def test_jf_of_a_sequence_is_the_mean_over_its_objects():
    objects = {"1": {"J_mean": 0.2, "F_mean": 0.4}, "2": {"J_mean": 0.6, "F_mean": 1.0}}
    assert three_tasks.jf_by_sequence({"sequences": {"a": objects}}) == {"a": pytest.approx(55)}


def test_the_best_block_is_that_of_the_encoder_itself():
    names = {f"{encoder}, block {k}": (encoder, k) for encoder in ("SiamMAE", "MAE") for k in (1, 2)}
    methods = {name: Method(name, None, 8, *source) for name, source in names.items()}
    found = dict(zip(names, (0.1, 0.3, 0.9, 0.2), strict=True))
    scores = {"davis": {name: {"JF_mean": value} for name, value in found.items()}}
    assert three_tasks.best_of(scores, methods).name == "SiamMAE, block 2"


# --- Encoders ---


def test_encoders_are_untrained_trained_and_foreign(settings, tmp_path):
    arguments = settings.model_arguments()
    folders = {name: save(model(**arguments), tmp_path / name) for name, model in (("MAE", MAE), ("SiamMAE", SiamMAE))}
    other = save(MAE(**{**arguments, "depth": 3}), tmp_path / "mae-other")
    encoders = three_tasks.load_encoders(folders, settings, 3, str(other / "last.pt"))
    assert list(encoders) == [UNTRAINED, "MAE", "SiamMAE", "mae-other"]
    seed_everything(3)
    drawn = SiamMAE(**arguments).encoder.state_dict()
    assert all(torch.equal(value, drawn[name]) for name, value in encoders[UNTRAINED].state_dict().items())
    kept = torch.load(folders["MAE"] / "last.pt")["model"]
    assert all(torch.equal(v, kept[f"encoder.{k}"]) for k, v in encoders["MAE"].state_dict().items())
    methods = three_tasks.methods_of(encoders, settings)
    own = [f"{name}, block {block}" for name in (UNTRAINED, "MAE", "SiamMAE") for block in (2, 4)]
    assert list(methods) == [COPIED, RGB, *own, "mae-other, block 3"]
    assert len({method.weights for method in methods.values()}) == 5  # none, and one for each encoder
    assert len({method.folder for method in methods.values()}) == len(methods)


def test_mae_may_be_missing_but_siammae_may_not(settings, tmp_path):
    siammae = save(SiamMAE(**settings.model_arguments()), tmp_path / "siammae")
    assert "MAE" not in three_tasks.load_encoders({"MAE": tmp_path / "none", "SiamMAE": siammae}, settings, 0)
    with pytest.raises(UserError, match=r"none.*notebook 3"):
        three_tasks.load_encoders({"SiamMAE": tmp_path / "none"}, settings, 0)


SAME = {
    ("a/model.safetensors", "b/model.safetensors"): ["a/model.safetensors", "b/model.safetensors"],
    ("a/MAE.pth",): ["MAE.pth"],
    ("a/x.pth", "a/x.safetensors"): ["x.pth", "x.safetensors"],
    ("run1/last.pt", "run2/last.pt"): ["run1", "run2"],
    ("a/run/last.pt", "b/run/last.pt", "c/y.pth"): ["a/run/last.pt", "b/run/last.pt", "y"],
    ("a/MAE/last.pt",): ["MAE/last.pt"],
    ("a/untrained ViT.pth", "vit_tiny"): ["untrained ViT.pth", "vit_tiny"],
}


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("files", SAME, ids=",".join)
def test_each_file_of_weights_has_a_row_of_its_own(settings, tmp_path, monkeypatch, files, as_list):
    loaded = {}

    def load(path, **told):
        loaded[str(path)] = told
        return torch.nn.Identity()

    monkeypatch.setattr(three_tasks, "load_encoder", load)
    monkeypatch.setenv("SIAMMAE_HOME", str(tmp_path))
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        if "." in file:
            (tmp_path / file).touch()
    weights = list(files) if as_list else ", ".join(files)
    encoders = three_tasks.load_encoders({}, settings, 0, weights)
    assert list(encoders) == [UNTRAINED, *SAME[files]] and len(loaded) == len(files)


def test_what_a_file_does_not_tell_can_be_said_with_it(settings, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(three_tasks, "load_encoder", lambda path, **given: told.append(given) or torch.nn.Identity())
    (tmp_path / "x.pth").touch()
    three_tasks.load_encoders({}, settings, 0, f"{tmp_path}/x.pth?num_heads=6&grid=9x16")
    assert told == [{"num_heads": 6, "grid": (9, 16)}]
    for words in ("heads=6", "num_heads=six", "grid=9", "num_heads=6x3"):
        with pytest.raises(UserError, match=r"write num_heads=6 and grid=9x16"):
            three_tasks.load_encoders({}, settings, 0, f"{tmp_path}/x.pth?{words}")
    with pytest.raises(UserError, match="names one twice"):
        three_tasks.load_encoders({}, settings, 0, f"{tmp_path}/x.pth,{tmp_path}/x.pth")


@pytest.mark.parametrize("preset", ["toy", "laptop"])
@pytest.mark.parametrize(
    "changes", [{}, {"epochs": 2, "gap": [4, 8]}, {"mask_ratio": 0.9}, {"eval_frames": 3}, {"epochs": 4000}]
)
def test_runs_are_looked_for_where_training_leaves_them(tmp_path, changes, preset):
    """Each notebook has the names of its own preset; SiamMAE's mask ratio says nothing of MAE's."""
    folders = three_tasks.run_folders(tmp_path, preset, presets.get(presets.SIAMMAE, preset, **changes), 1)
    common = {name: value for name, value in changes.items() if name != "mask_ratio"}
    for name, table, given in (("MAE", presets.MAE, common), ("SiamMAE", presets.SIAMMAE, changes)):
        settings = presets.get(table, preset, **given)
        assert folders[name] == tmp_path / presets.run_name(name.lower(), table, preset, settings, 1)


# --- Words ---


def test_numbers_carry_their_data_and_conditions(data, settings):
    tasks, protocols = three_tasks.open_tasks(data), three_tasks.protocols_of(settings)
    words = three_tasks.describe(tasks, settings, "toy world", 4)
    assert list(words) == ["data", "seed", "parts", "joints"] and words["seed"] == 4
    assert "2 sequences, up to 5 frames, 1 to 2 objects" in words["data"] and "1 video" in words["parts"]
    assert "first 1 sequence, first 3 frames, 1 object" in three_tasks.describe_davis(tasks["davis"], "", 3, first=1)
    sizes = {"input": "40x64", "vip input": "560x560", "jhmdb input": "320x320"}
    assert three_tasks.conditions(tasks, protocols, settings) == {"protocol": "crw", "temperature": "0.05", **sizes}
    assumed = replace(settings, protocol="siammae-4b")
    found = three_tasks.conditions(tasks, three_tasks.protocols_of(assumed), assumed)
    assert found["temperature"] == "0.7*"  # SiamMAE does not state it


def test_features_of_raw_colour_have_the_settings_patches(settings):
    method = three_tasks.methods_of({}, settings)[RGB]
    image = torch.rand(1, 3, 16, 24)
    assert torch.equal(method.features(image), rgb_patch_features(8)(image)) and method.patch_size == 8
