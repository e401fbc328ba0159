"""The commands of README.md are run as they stand there, in a working copy with a toy world of its own.

Where one would take long, parameters follow that shorten it: of one given twice the last value counts.
"""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import repository_checks as checks
import timm
import torch

import make
from lib.data.jhmdb import JhmdbDataset
from lib.data.kinetics import MANIFEST, list_kinetics, read_manifest, scan_videos
from lib.data.vip import VipDataset
from lib.presets import MAE, SIAMMAE, get, run_name
from lib.score.tracking import track_joints, track_parts
from lib.studies import seeds
from lib.studies.choices import BLOCK, MOVING
from lib.studies.real import BOTH
from lib.studies.real_tables import against_default, difference, means, places, read_clips, read_costs
from lib.studies.table import read_table
from lib.toyworld import ToyWorldOptions, ensure_toy_world

TEXT, FIGURES = (make.ROOT / "README.md").read_text(encoding="utf-8"), make.ROOT / "figures"
README = checks.commands(TEXT)
SCORE = ["python", "-m", "lib.score"]
BENCHMARK = ["python", "-m", "lib.benchmark"]
TOY_WORLD = ["python", "data_scripts/make_toy_world.py"]
KINETICS = ["python", "data_scripts/prepare_kinetics.py"]
GET = ["python", "data_scripts/get_kinetics400.py"]
STUDY = ["python", "-m", "lib.studies"]
TRACK = ["python", "-m", "lib.track"]
MAKE = ["python3", "make.py"]
PAPERMILL, CONVERT, LAUNCH = ["papermill"], ["jupyter", "nbconvert"], ["accelerate", "launch"]
TINY = ToyWorldOptions(
    datasets=("kinetics400", "davis2017", "jhmdb", "vip", "studio", "cifar10"), height=72, width=96, objects=2,
    kinetics_train=9, kinetics_val=4, kinetics_frames=75, davis_train=0, davis_val=1, davis_frames=30, studio_train=12,
    studio_val=2, batch_pictures=20,
)  # fmt: skip

# Whatever a notebook's preset says, in a minute.
SMALL = {
    "epochs": 1, "encoder": "micro", "image_size": 64, "patch_size": 8, "batch_size": 8, "workers": 0,
    "eval_size": [48, 64], "part_size": [48, 64], "eval_frames": 3, "blocks": [-1], "study_sequences": 0,
    "test_clips": 2, "finetune_epochs": 1, "data_root": "data/real",
}  # fmt: skip


def documented(start: list[str]) -> list[list[str]]:
    """README's commands that begin with `start`, each as words."""
    return [words for words in README if words[: len(start)] == start]


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A copy of what the commands use, with a tiny toy world where README has the default one."""
    root = tmp_path_factory.mktemp("copy") / "repository"
    for name in ("lib", "data_scripts", "notebooks", "figures", "tests"):
        shutil.copytree(make.ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for path in (make.ENVIRONMENT, make.REQUIREMENTS, make.ROOT / "make.py", make.ROOT / ".gitignore"):
        shutil.copy(path, root)
    (root / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    ensure_toy_world(root / "data" / "toy", TINY, workers=1)
    shutil.copytree(root / "data" / "toy", root / "data" / "real")  # the same under a name that is not the toy world's
    (root / "data" / "real" / "manifest.json").unlink()
    shutil.rmtree(root / "data" / "real" / "davis2017" / "Flow", ignore_errors=True)
    return root


def git(root: Path, *words: str) -> str:
    """What git prints in `root`."""
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    return subprocess.run(["git", *who, *words], cwd=root, capture_output=True, text=True, check=True).stdout


def notebook_text(path: Path) -> str:
    """All text that the cells of an executed notebook printed."""
    cells = nbformat.read(path, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


def changed(values: dict, notebook: str) -> list[str]:
    """Those of the values that the notebook has, as papermill's arguments."""
    known, given = make.parameters(Path(notebook)), []
    for name in values.keys() & known.keys():
        value = values[name]  # papermill heeds -r before -p before -y, and of equals the last
        if isinstance(value, list):
            given += ["-y", f"{name}: {json.dumps(value)}"]
        else:
            given += ["-r" if isinstance(value, str) else "-p", name, str(value)]
    return given


def run(words: list[str], root: Path) -> str:
    """Run a command in `root` with this Python's programs first; return what it prints. It must succeed."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        words, cwd=root, env=make.environment(PATH=path), capture_output=True, text=True, timeout=1800, check=False
    )
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def option(words: list[str], name: str) -> str:
    """The value after option `name`."""
    return words[words.index(name) + 1]


def test_every_command_has_its_test_here():
    starts = [TRACK, SCORE, BENCHMARK, STUDY, TOY_WORLD, GET, KINETICS, MAKE, PAPERMILL, CONVERT, LAUNCH]
    assert all(documented(start) for start in starts), "README lost a command"
    covered = [words for start in starts for words in documented(start)]
    assert [shlex.join(words) for words in README if words not in covered] == []


@pytest.mark.parametrize("words", documented(TRACK), ids=shlex.join)
def test_track(words, copy):
    shown, out, frames = run(words, copy), copy / option(words, "--out"), list((copy / words[3]).iterdir())
    assert f"{len(frames)} frames" in shown and len(list((out / "masks").iterdir())) == len(frames)
    assert (out / "overlay.mp4").stat().st_size > 1000 and (out / "sheet.png").is_file()


@pytest.mark.parametrize("words", documented(SCORE), ids=shlex.join)
def test_score(words, copy):
    task, root, folder = words[3], copy / option(words, "--truth"), copy / option(words, "--predictions")
    if task == "vip":
        track_parts(VipDataset(root), truth_of(VipDataset(root)), folder, {})
    if task == "jhmdb":
        clips = {tuple(clip.joints(1)[0].flatten()): clip.joints() for clip in JhmdbDataset(root)}
        track_joints(JhmdbDataset(root), lambda _, first: iter(clips[tuple(first.flatten())]), folder, {})
    shown = run(words, copy)
    result = json.loads((copy / option(words, "--json")).read_text())
    measure = {"davis": "JF_mean", "vip": "mIoU", "jhmdb": "PCK@0.1"}[task]
    assert result[measure] == 1.0 and f"{measure}" in shown  # the truth against itself


def truth_of(sequences):
    """A tracker that knows the truth, void made background."""
    masks = {sequence.first_mask().tobytes(): sequence.masks() for sequence in sequences}
    return lambda _, first: (np.where(mask == 255, 0, mask) for mask in masks[first.tobytes()])


@pytest.mark.parametrize("words", documented(BENCHMARK), ids=shlex.join)
def test_benchmark(words, copy):
    small = {"propagation": "--height 6 --width 9 --channels 8 --queue 3 --radius 3 --rounds 1",
             "plan": f"--clips 100 --speeds {FIGURES / 'measured' / 'benchmark_data.json'}"}  # fmt: skip
    run([*words, *shlex.split(small[words[3]])], copy)
    result = json.loads((copy / option(words, "--json")).read_text())
    assert result["gpu_hours" if words[3] == "plan" else "ratio"] > 0


@pytest.mark.parametrize("words", documented(STUDY), ids=shlex.join)
def test_study(words, copy):
    row = {"masking": "1f MLP 0.95", "uncertainty": "plain SiamMAE", "seeds": "untrained", "sensitivity": "shape",
           "ablations": "untrained", "futures": "copy of the past"}[words[3]]  # fmt: skip
    shown = run([*words, "--epochs", "1", "--seeds", "1", "--rows", row], copy)  # one row of its table
    table = read_table(copy / option(words, "--out") / f"{words[3]}.csv")
    assert f"{row}, seed 0: " in shown and table["value"].notna().any()


@pytest.mark.parametrize("words", documented(TOY_WORLD), ids=shlex.join)
def test_make_toy_world(words, copy):
    sizes = [(field.name, getattr(TINY, field.name)) for field in fields(TINY) if field.name != "datasets"]
    tiny = ["--datasets", "davis2017", *(word for name, value in sizes for word in (f"--{name}", str(value)))]
    run([*words[:2], *tiny, *words[2:]], copy)  # README's own options come last and count
    root = copy / option(words, "--root")
    made = json.loads((root / "manifest.json").read_text())["options"]
    assert made["difficulty"] == float(option(words, "--difficulty")) and made["height"] == TINY.height
    assert len(list(root.rglob("*.jpg"))) == TINY.davis_frames * TINY.davis_val


@pytest.mark.parametrize("words", documented(GET), ids=shlex.join)
def test_get(words, copy):
    assert "terms of use: " in run(words, copy) and "--dry-run" in words  # what it fetches: tests/fetch


@pytest.mark.parametrize("words", documented(KINETICS), ids=shlex.join)
def test_prepare_kinetics(words, copy):
    run(words, copy)
    root = copy / option(words, "--root")
    verdicts = read_manifest(root / MANIFEST)
    videos = {path.resolve() for path in (root / "train").rglob("*.mp4")}
    assert set(verdicts) == videos and len(videos) == TINY.kinetics_train + 3
    assert sum(isinstance(verdict, str) for verdict in verdicts.values()) == 1  # the toy world has one broken file
    assert len(scan_videos(list_kinetics(copy / option(words, "--store"))).clips) == TINY.kinetics_train + 1


@pytest.mark.slow
@pytest.mark.parametrize("words", documented(PAPERMILL), ids=shlex.join)
def test_papermill(words, copy, tmp_path):
    given = {words[i + 1]: words[i + 2] for i, word in enumerate(words) if word == "-p"}
    small = SMALL
    if "06_evaluation" in words[1]:  # reads what the two before it left
        for name, system, family in (("02_mae_baseline", "mae", MAE), ("03_pretrain", "siammae", SIAMMAE)):
            notebook, target = f"notebooks/{name}.ipynb", str(tmp_path / "x.ipynb")
            settings = get(family, "toy", **{key: value for key, value in SMALL.items() if hasattr(MAE["toy"], key)})
            if not (copy / "runs" / "toy" / run_name(system, family, "toy", settings, 0) / "last.pt").is_file():
                run(["papermill", notebook, target, "-k", "python3", *changed(SMALL, notebook)], copy)
    if "weights" in given:  # a name of timm's is downloaded: here a file of that model, made on the spot
        model = timm.create_model(given["weights"].split(".")[0], pretrained=False, img_size=32)
        torch.save(model.state_dict(), copy / "weights.pth")
        small = small | {"weights": "weights.pth"}
        assert timm.is_model(given["weights"])
    run([*words, *changed(small, words[1])], copy)
    assert "checks passed\n" in notebook_text(copy / words[2])


@pytest.mark.slow
def test_scripts_from_notebooks(copy):
    for words in documented(CONVERT):
        run(words, copy)
    made = set().union(*map(checks.converted, documented(CONVERT)))
    assert {words[-1] for words in documented(LAUNCH)} <= made
    for script in made:
        source = (copy / script).read_text(encoding="utf-8")
        assert ast.parse(source).body and "get_ipython" not in source  # which exists in notebooks alone
        for name, value in SMALL.items():  # a script has its parameters at its head
            source = re.sub(rf"^{name} = [^#\n]*", f"{name} = {value!r}  ", source, count=1, flags=re.MULTILINE)
        (copy / script).write_text(source, encoding="utf-8")
    for words in documented(LAUNCH):
        assert "checks passed" in run([*words[:2], "--num_processes", "1", *words[2:]], copy)


@pytest.mark.parametrize("words", documented(MAKE), ids=shlex.join)
def test_make_knows_the_command_and_its_options(words):
    args = make.command_line().parse_args(words[2:])  # exits where it does not
    assert args.run is getattr(make, words[2])


@pytest.fixture(scope="module")
def checkout(copy) -> Path:
    """The copy as a checkout with all committed; skipped where `make.py` would first have to install things."""
    if not (Path(sys.prefix) / make.STAMP.name).is_file():
        pytest.skip("these tests do not run in the environment that make.py makes")
    git(copy, "init", "--quiet")
    git(copy, "add", "--all")
    git(copy, "commit", "--quiet", "--message", "all")
    return copy


DEMOS = [words for words in documented(MAKE) if words[2] == "demo"]


@pytest.mark.slow
@pytest.mark.parametrize("words", DEMOS, ids=shlex.join)
def test_demo_runs_its_notebooks_and_leaves_the_checkout_clean(words, checkout):
    preset = option(words, "--preset") if "--preset" in words else "toy"
    chosen = [path for path in make.notebooks() if "--all" in words or path.name[:2] in make.MAIN]
    known = {name for path in chosen for name in make.parameters(path)}
    small = [word for name, value in SMALL.items() if name in known for word in ("-p", name, repr(value))]
    shown = run([*words, *small], checkout)
    for notebook in chosen:
        assert "checks passed\n" in notebook_text(checkout / "runs" / preset / "notebooks" / notebook.name)
    assert "SiamMAE, block" in shown and list((checkout / "runs" / preset / "figures").glob("06_scores_*.png"))
    assert git(checkout, "status", "--porcelain") == ""


@pytest.mark.slow
def test_the_test_command_runs_tests(checkout):
    (words,) = [words for words in documented(MAKE) if words[2] != "demo"]
    assert words == ["python3", "make.py", "test"]
    shown = run([*words, "--fast", "--only", "tests/tokens/test_cubes.py"], checkout)  # all would run this very test
    assert " passed" in shown and "all tests passed" in shown
    assert git(checkout, "status", "--porcelain") == ""


# --- the numbers --------------------------------------------------------------------------------------------


def seed_scores() -> pd.DataFrame:
    """Scores on the toy world by (method, seed)."""
    return seeds.read_rows(FIGURES / "measured" / "seeds.csv").set_index(["method", "seed"])


def test_scores_on_the_toy_world_are_as_it_says():
    table, tasks = seed_scores(), ["JF_mean", "mIoU", "PCK@0.1"]
    others = {name for name in table.index.levels[0] if "SiamMAE" not in name and not name.startswith("MAE")}
    for block in ("block 2", "block 4"):
        ours = table.loc[f"SiamMAE, {block}", tasks]
        assert len(ours) == 3 and all((ours > table.loc[name, tasks]).all(axis=None) for name in others)
        ahead = (ours > table.loc[f"MAE, {block}", tasks]).sum()
        assert ahead.tolist() == ([3, 3, 3] if block == "block 2" else [2, 3, 3])


def test_scores_on_real_video_are_those_of_the_committed_rows():
    lines = read_clips(FIGURES / "measured" / "real.csv")
    found, flat = means(lines).set_index(["row", "data"]), TEXT.replace("\n", " ")
    ours, theirs, both, untrained = (found.loc[row] for row in ("SiamMAE", "MAE", BOTH, "untrained ViT"))
    people, davis = "JHMDB", "DAVIS-2016 (one object)"
    for data in (people, davis):
        assert f"{ours.loc[data, 'JF']:.1f} against {theirs.loc[data, 'JF']:.1f}" in flat
        assert f"(untrained {untrained.loc[data, 'JF']:.1f})" in flat
        assert difference(lines, "SiamMAE", "MAE", data).columns()["verdict"] == "not shown"
    told = [f"{both.loc[data, 'JF']:.1f}" for data in (people, davis)]
    ahead = [f"{difference(lines, BOTH, 'MAE', data).columns()['mean']:+.1f}" for data in (people, davis)]
    assert f"{told[0]} and {told[1]} ({ahead[0]} and {ahead[1]} against MAE, " in flat
    counts = lines.groupby("data")["clip"].nunique()
    assert (counts[people], counts[davis]) == (126, 10) and set(pd.concat([ours, theirs, both])["seeds"]) == {3}


def test_changes_to_siammae_are_as_many_as_it_says():
    lines, costs = (read(FIGURES / "measured" / "choices.csv") for read in (read_clips, read_costs))
    as_long = (lines["block"] == BLOCK) & ~lines["row"].str.endswith(", 3 x")
    compared = against_default(lines[as_long], costs, "SiamMAE").set_index("row")
    changes = compared[[not row.startswith(("MAE", "SiamMAE", "untrained")) for row in compared.index]]
    finer, clips = changes.loc[changes["verdict"] == "higher", "mean"].sort_values(ascending=False)
    assert f"Of {len(changes)} changes to it" in TEXT and f"another, by {clips:.1f}, is about what chance gives" in TEXT
    assert f"patches of 6 pixels help, by {finer:.1f}, and MAE as much" in TEXT
    row, data = "MAE, patches of 6 pixels, crops of 48", "JHMDB, held out"
    lines = lines[lines["block"] == BLOCK]
    gains = difference(lines, row, "MAE", data)
    assert gains.columns()["verdict"] == "higher" and abs(gains.columns()["mean"] - finer) < 0.5
    untrained = difference(lines, row.replace("MAE", "untrained"), "untrained ViT", data).columns()["mean"]
    assert "an untrained network more" in TEXT.replace("\n", " ") and untrained > finer + 1


def test_mae_is_ahead_after_longer_training_and_places_tell_more_of_siammae():
    path = FIGURES / "measured" / "choices.csv"
    lines = read_clips(path)
    for times in (2, 4, 8):
        pair = f"MAE, {times} x", f"SiamMAE, {times} x"
        compared = difference(lines[lines["block"] == BLOCK], *pair, "JHMDB, held out")
        assert compared.columns()["verdict"] == "higher"
    pair = f"MAE, {MOVING.partition(', ')[0]}, 3 x", f"{MOVING}, 3 x"
    ahead = difference(lines[lines["block"] == BLOCK], *pair, "JHMDB, held out").columns()
    assert ahead["verdict"] == "higher" and f"by {ahead['mean']:.1f} where both train" in TEXT
    found = places(path, BLOCK).groupby("row").mean()
    assert found.loc["SiamMAE", "place share"] > found.loc["MAE", "place share"] + 10
    assert found.loc["SiamMAE", "JF without place"] < found.loc["MAE", "JF without place"] - 1


def test_times_are_those_of_the_committed_rows():
    rows = pd.read_csv(FIGURES / "measured" / "times.csv")
    for row in rows.to_dict("records"):
        cells = [f"{row[machine] / 60:.1f} min" for machine in ("with_bf16", "without_bf16")]
        assert any(row["notebook"] in line and line.endswith(f"| {' | '.join(cells)} |") for line in TEXT.splitlines())
    assert {path.stem for path in make.notebooks()} <= set(rows["notebook"])
