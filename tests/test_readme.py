"""The commands of README.md are run as they stand there, in a working copy with a toy world of its own."""

import ast
import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import repository_checks as checks

import make
from lib.config import get_preset
from lib.data.kinetics import read_manifest
from lib.evaluation.protocols import get_protocol
from lib.toyworld import ToyWorldOptions, ensure_toy_world

TEXT, FIGURES = (make.ROOT / "README.md").read_text(encoding="utf-8"), make.ROOT / "figures"
README = checks.commands(TEXT)
SCORE = ["python", "-m", "lib.score", "davis"]
TOY_WORLD = ["python", "data_scripts/make_toy_world.py"]
KINETICS = ["python", "data_scripts/prepare_kinetics.py"]
MAKE = ["python3", "make.py"]
PAPERMILL, CONVERT, LAUNCH = ["papermill"], ["jupyter", "nbconvert"], ["accelerate", "launch"]
TINY = ToyWorldOptions(
    datasets=("kinetics400", "davis2017"), height=72, width=96, objects=2, kinetics_train=4, kinetics_val=2,
    kinetics_frames=60, davis_train=0, davis_val=1, davis_frames=30,
)  # fmt: skip


def documented(start: list[str]) -> list[list[str]]:
    """README's commands that begin with `start`, each as words."""
    return [words for words in README if words[: len(start)] == start]


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A copy of what the commands use, with a tiny toy world where README has the default one."""
    root = tmp_path_factory.mktemp("copy") / "repository"
    for name in ("lib", "data_scripts", "notebooks"):
        shutil.copytree(make.ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    shutil.copy(make.ENVIRONMENT, root)  # by which the notebooks know the root
    ensure_toy_world(root / "data" / "toy", TINY, workers=1)
    return root


def run(words: list[str], root: Path) -> str:
    """Run a command in `root` with this Python's programs first; return what it prints. It must succeed."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        words, cwd=root, env=make.environment(PATH=path), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def option(words: list[str], name: str) -> str:
    """The value after option `name`."""
    return words[words.index(name) + 1]


def test_every_command_has_its_test_here():
    starts = [SCORE, TOY_WORLD, KINETICS, MAKE, PAPERMILL, CONVERT, LAUNCH]
    assert all(documented(start) for start in starts), "README lost a command"
    covered = [words for start in starts for words in documented(start)]
    assert [shlex.join(words) for words in README if words not in covered] == []


@pytest.mark.parametrize("words", documented(SCORE), ids=shlex.join)
def test_score(words, copy):
    shown = run(words, copy)
    assert json.loads((copy / option(words, "--json")).read_text())["JF_mean"] == 1.0  # the truth against itself
    assert shown.splitlines()[-1].split() == ["JF_mean", "1.0000"]


@pytest.mark.parametrize("words", documented(TOY_WORLD), ids=shlex.join)
def test_make_toy_world(words, copy):
    sizes = [(field.name, getattr(TINY, field.name)) for field in fields(TINY) if field.name != "datasets"]
    tiny = ["--datasets", "davis2017", *(word for name, value in sizes for word in (f"--{name}", str(value)))]
    run([*words[:2], *tiny, *words[2:]], copy)  # README's own options come last and count
    root = copy / option(words, "--root")
    made = json.loads((root / "manifest.json").read_text())["options"]
    assert made["difficulty"] == float(option(words, "--difficulty")) and made["height"] == TINY.height
    assert len(list(root.rglob("*.jpg"))) == TINY.davis_frames * TINY.davis_val


@pytest.mark.parametrize("words", documented(KINETICS), ids=shlex.join)
def test_prepare_kinetics(words, copy):
    run(words, copy)
    verdicts = read_manifest(copy / option(words, "--manifest"))
    videos = {path.resolve() for path in (copy / option(words, "--root") / "train").rglob("*.mp4")}
    assert set(verdicts) == videos and len(videos) == TINY.kinetics_train + 3
    assert sum(isinstance(verdict, str) for verdict in verdicts.values()) == 1  # the toy world has one broken file


@pytest.mark.slow
def test_papermill(copy):
    words = documented(PAPERMILL)[0]
    small = {"data_root": str(copy / "data" / "toy"), "epochs": 60, "image_size": 32, "patch_size": 4, "batch_size": 16}
    given = [word for name, value in small.items() for word in ("-p", name, str(value))]
    run([*words, *given], copy)  # of a parameter given twice the last value counts
    result = nbformat.read(copy / words[2], as_version=4)
    printed = [output.get("text", "") for cell in result.cells for output in cell.get("outputs", [])]
    assert "checks passed\n" in printed
    assert list((copy / "runs").glob(f"toy/siammae-{small['epochs']}ep-*/last.pt"))


@pytest.mark.parametrize("words", documented(PAPERMILL), ids=shlex.join)
def test_papermill_values(words):
    given = {words[i + 1]: words[i + 2] for i, word in enumerate(words) if word == "-p"}
    settings = get_preset("toy", **{name: int(value) if value.isdigit() else value for name, value in given.items()})
    assert get_protocol(settings.protocol)
    assert set(given) <= set(make.parameters(Path(words[1])))


def test_scripts_from_notebooks(copy):
    for words in documented(CONVERT):
        run(words, copy)
    made = set().union(*map(checks.converted, documented(CONVERT)))
    assert {words[-1] for words in documented(LAUNCH)} <= made
    for script in made:
        source = (copy / script).read_text(encoding="utf-8")
        assert ast.parse(source).body and "get_ipython" not in source  # which exists in notebooks alone


@pytest.mark.parametrize("words", documented(MAKE), ids=shlex.join)
def test_make_knows_the_command_and_its_options(words):
    args = make.command_line().parse_args(words[2:])  # exits where it does not
    assert args.run is getattr(make, words[2])
    assert get_preset(getattr(args, "preset", None) or "toy")


# --- the numbers --------------------------------------------------------------------------------------------


def test_scores_on_the_toy_world_are_those_of_the_committed_rows():
    for method, scores in pd.read_csv(FIGURES / "seeds.csv").groupby("method", sort=False)["JF_mean"]:
        assert f"| {method} | {scores.mean():.1f} ± {scores.std():.1f} |" in TEXT


def test_scores_on_real_video_are_those_of_the_committed_rows():
    for row in pd.read_csv(FIGURES / "06_scores_real.csv").itertuples():
        assert f"| {row.method} | {row.JF_mean:.1f} | {row.J_mean:.1f} | {row.F_mean:.1f} |" in TEXT
