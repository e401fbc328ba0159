"""The project's commands. They need Python 3.11 or newer; `demo` and `test` install the rest in `.venv`.

python3 make.py demo    make the toy world, pre-train, evaluate, print the scores (--all: the other notebooks, too)
python3 make.py test    run the unit tests, then every notebook as a test
python3 make.py seeds   pre-train and score with several seeds, write runs/seeds/seeds.csv
python3 make.py figures put the results of the default runs, which lie in runs/, into figures/
python3 make.py lab     open the notebooks in JupyterLab
python3 make.py pins    write environment.yml from requirements.txt
"""

import argparse
import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "installed.txt"
REQUIREMENTS = ROOT / "requirements.txt"
ENVIRONMENT = ROOT / "environment.yml"
NBVAL = ["-q", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=900", "-x"]
NBVAL += ["--nbval-sanitize-with", "tests/nbval_sanitize.cfg"]
UNWANTED = {"JUPYTER_PATH", "PYTHONPATH", "MPLBACKEND", "PYTHONDONTWRITEBYTECODE", "SIAMMAE_HOME"}


class Failure(Exception):
    """What went wrong, in one line."""


# --- the environment ----------------------------------------------------------------------------------------


def venv_python() -> Path:
    """The interpreter inside .venv; Windows keeps it in another folder."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def environment(**extra: str) -> dict[str, str]:
    """Environment variables for our commands: the user's own, less what could lead outside .venv.

    JUPYTER_PATH and PYTHONPATH would find another kernel or package first; MPLBACKEND would replace the
    notebooks' inline figures; without bytecode files each of many short processes compiles torch anew (five
    seconds); PIP_USER would install in the home folder; SIAMMAE_HOME would put results elsewhere.
    """
    kept = {name: value for name, value in os.environ.items() if name not in UNWANTED}
    return {**kept, "JUPYTER_PREFER_ENV_PATH": "1", "PIP_USER": "0", **extra}


def run(arguments: list, problem: str, **extra: str) -> None:
    """Run .venv's Python with `arguments` in the repository's root; failing raises Failure(problem)."""
    command = [venv_python(), *map(str, arguments)]
    if subprocess.run(command, cwd=ROOT, env=environment(**extra)).returncode:
        raise Failure(problem)


def set_up() -> None:
    """Make .venv hold what requirements.txt asks for; does nothing when it does already.

    The stamp is written last. Without it the folder is started afresh, since an interrupted installation can
    leave packages that look complete; with an outdated one the installation is brought up to date in place.
    """
    version = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    wanted = f"{version}, requirements {hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()}\n"
    present = STAMP.read_text() if STAMP.is_file() and venv_python().is_file() else ""
    if present == wanted:
        return
    STAMP.unlink(missing_ok=True)
    if not present.startswith(version + ","):
        print(f"making {VENV.name} ...", flush=True)
        made = subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], capture_output=True, text=True)
        if made.returncode:
            reason = (made.stdout + made.stderr).strip().splitlines()[0]
            raise Failure(f"cannot make {VENV}: {reason} (on Debian and Ubuntu: apt install python3-venv)")
    print(f"installing in {VENV.name} (one to three minutes, up to 6 GB on Linux) ...", flush=True)
    quiet = [] if sys.stdout.isatty() else ["--quiet"]
    pip = ["-m", "pip", "--disable-pip-version-check", "install", "--no-input", "--no-compile", *quiet]
    run([*pip, "-r", REQUIREMENTS], "pip could not install requirements.txt: see above, then run this again")
    STAMP.write_text(wanted)


# --- pins ---------------------------------------------------------------------------------------------------


def pinned() -> list[str]:
    """The requirements, without comments."""
    lines = (re.sub(r"\s*#.*", "", line).strip() for line in REQUIREMENTS.read_text().splitlines())
    return [line for line in lines if line]


def environment_yml() -> str:
    """The text of environment.yml: a conda environment that holds the same pins."""
    pins = "".join(f"      - '{pin}'\n" for pin in pinned())
    head = "# Made from requirements.txt by: python3 make.py pins\nname: siammae\nchannels:\n"
    return f"{head}  - conda-forge\ndependencies:\n  - python=3.11\n  - pip\n  - pip:\n{pins}"


def pins(_: argparse.Namespace) -> None:
    """Write environment.yml from requirements.txt."""
    ENVIRONMENT.write_text(environment_yml())


# --- notebooks ----------------------------------------------------------------------------------------------


def notebooks() -> list[Path]:
    """The notebooks in reading order, relative to the root: papermill stores these paths in its results."""
    found = sorted(path.relative_to(ROOT) for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
    if not found:
        raise Failure("no notebooks in notebooks/: the checkout is incomplete")
    return found


def parameters(notebook: Path) -> dict[str, object]:
    """Names and default values in the notebook's cell tagged `parameters` (literals only)."""
    for cell in json.loads((ROOT / notebook).read_text(encoding="utf-8"))["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            lines = [line for line in ast.parse("".join(cell["source"])).body if isinstance(line, ast.Assign)]
            return {line.targets[0].id: ast.literal_eval(line.value) for line in lines}
    return {}


def make_toy_world(root: Path) -> None:
    """Make the toy world in `root`, unless it is there."""
    run(["data_scripts/make_toy_world.py", "--root", root], "the toy world was not made: see above")


def relay_progress(process: subprocess.Popen) -> str:
    """Show the process's progress bar on a terminal; return the last other line that it wrote to stderr."""
    last = line = ""
    while character := process.stderr.read(1):
        line += character
        if character in "\r\n":
            bar = re.match(r"Executing:.*?\]", line)  # up to its end: other messages may follow on the same line
            if not bar:
                last = line.strip() or last
            elif sys.stderr.isatty():
                sys.stderr.write("\r" + bar[0])
            line = ""
    if sys.stderr.isatty():
        sys.stderr.write("\n")
    return line.strip() or last


def execute(notebook: Path, target: Path, options: dict[str, object], **extra: str) -> None:
    """Run one notebook headless into `target`, which appears only when every cell succeeded."""
    partial, failed = target.with_suffix(".partial.ipynb"), target.with_suffix(".failed.ipynb")
    for old in (target, failed):
        (ROOT / old).unlink(missing_ok=True)
    command = [venv_python(), "-m", "papermill", notebook, partial, "-k", "python3", "--cwd", notebook.parent]
    command += ["--progress-bar", "--no-log-output"]
    for name, value in options.items():  # as YAML, of which JSON is a part: text stays text, lists are lists
        command += ["-y", f"{name}: {json.dumps(value)}"]
    if sys.stderr.isatty() and hasattr(os, "ttyname"):  # the kernel's own bars, drawn here and not in the notebook
        extra["SIAMMAE_TERMINAL"] = os.ttyname(sys.stderr.fileno())
    variables = environment(**extra)
    process = subprocess.Popen(command, cwd=ROOT, env=variables, stderr=subprocess.PIPE, text=True)
    last = relay_progress(process)
    if process.wait() == 0:
        os.replace(ROOT / partial, ROOT / target)
        return
    if not (ROOT / partial).is_file():
        raise Failure(f"{notebook}: {last}")
    os.replace(ROOT / partial, ROOT / failed)
    raise Failure(f"{notebook}: {first_error(ROOT / failed) or last} (executed so far: {failed})")


def first_error(notebook: Path) -> str:
    """Which cell failed and how, or nothing when no cell did."""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                message = " ".join(output["evalue"].split())
                return f"cell [{cell['execution_count']}]: {output['ename']}: {message}"
    return ""


# --- the two commands ---------------------------------------------------------------------------------------


def timed(stages: dict[str, float], name: str, step: Callable[..., None], *arguments, **extra: str) -> None:
    """Say what begins, run `step(*arguments, **extra)`, and keep its seconds in `stages`."""
    print(f"== {name} ...", flush=True)
    start = time.perf_counter()
    step(*arguments, **extra)
    stages[name] = time.perf_counter() - start
    print(f"== {name}: {stages[name]:.0f} s", flush=True)


def demo(args: argparse.Namespace) -> None:
    """Make the toy world, run the notebooks of the main story (--all: all), print the scores."""
    stages = {}
    timed(stages, "set-up", set_up)
    given = {name: value for name, value in vars(args).items() if name in OPTIONS and value is not None}
    given |= {name: literal(value) for name, value in args.p}
    numbers = args.notebooks.split(",") if args.notebooks else MAIN
    chosen = [path for path in notebooks() if path.name[:2] in numbers or (args.all and not args.notebooks)]
    if not chosen:
        raise Failure(
            f"--notebooks {args.notebooks} names none: give numbers as {', '.join(p.name[:2] for p in notebooks())}"
        )
    known = {name for notebook in chosen for name in parameters(notebook)}
    if set(given) - known - set(OPTIONS):
        raise Failure(f"no notebook that runs has a parameter {', '.join(sorted(set(given) - known - set(OPTIONS)))}")
    if "preset" in given:
        given.setdefault("out_dir", f"runs/{given['preset']}")
    defaults = {name: value for notebook in notebooks() for name, value in parameters(notebook).items()}
    if "data_root" not in given:
        timed(stages, "toy world", make_toy_world, ROOT / defaults["data_root"])
    out_dir = Path(given.get("out_dir") or f"runs/{defaults['preset']}")
    (ROOT / out_dir / "notebooks").mkdir(parents=True, exist_ok=True)
    for notebook in chosen:
        if notebook.name == SCORES:
            (ROOT / out_dir / "metrics.json").unlink(missing_ok=True)
        options = {name: given[name] for name in parameters(notebook) if name in given}
        timed(stages, str(notebook), execute, notebook, out_dir / "notebooks" / notebook.name, options)
    summary(out_dir, stages)


def literal(text: str) -> object:
    """A parameter's value from the command line: a number, list or the like; else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def summary(out_dir: Path, stages: dict[str, float]) -> None:
    """Print the rows that metrics.json holds under `table`, the places of all results, the time per stage."""
    metrics = ROOT / out_dir / "metrics.json"
    if any(stage.endswith(SCORES) for stage in stages):
        if not metrics.is_file():
            raise Failure(f"{metrics} was not written: {SCORES} should do that")
        rows = json.loads(metrics.read_text(encoding="utf-8"))["table"]
        cells = [list(rows[0])] + [[show(value) for value in row.values()] for row in rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        print()
        for row in cells:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    places = {"scores": "metrics.json", "notebooks": "notebooks", "figures": "figures"}
    print("\n" + "".join(f"{name:11}{out_dir / place}\n" for name, place in places.items()))
    for name, seconds in {**stages, "total": sum(stages.values())}.items():
        print(f"{seconds:6.0f} s  {name}")


def show(value: object) -> str:
    """A table cell: one decimal for fractions, nothing for missing values."""
    return "" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)


def test(args: argparse.Namespace) -> None:
    """Run the unit tests, then every notebook as a test; the notebooks even when the unit tests fail."""
    stages, failures = {}, []

    def pytest(problem: str, *arguments, **extra: str) -> None:
        try:
            run(["-m", "pytest", *arguments], problem, **extra)
        except Failure as failure:
            failures.append(str(failure))

    timed(stages, "set-up", set_up)
    timed(stages, "unit tests", pytest, "unit tests failed", args.only, "-n", "2")
    if not args.fast:
        timed(stages, "notebooks as tests", test_notebooks, pytest)
    if failures:
        raise Failure("; ".join(failures))
    print(f"all tests passed in {sum(stages.values()):.0f} s")


def test_notebooks(pytest: Callable[..., None]) -> None:
    """Run the notebooks in an empty home, so that no earlier result helps: those that read each other's runs in order,
    beside them the others. Each half has its cores to itself; small models gain little from a second one.
    """
    chain = [path for path in notebooks() if path.name[:2] in CHAIN]
    halves = [chain, [path for path in notebooks() if path not in chain]]
    cores = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // 2))}
    with tempfile.TemporaryDirectory(prefix="siammae-") as home, ThreadPoolExecutor() as pool:
        make_toy_world(Path(home, "data", "toy"))
        extra = {"SIAMMAE_HOME": home, **cores}
        for half in [pool.submit(pytest, "notebooks failed", *NBVAL, *half, **extra) for half in halves if half]:
            half.result()


def seeds(args: argparse.Namespace) -> None:
    """Pre-train and score with several seeds on the toy world, write runs/seeds/seeds.csv (minutes a seed).

    Finished seeds are kept: after a change of code, delete runs/seeds first.
    """
    set_up()
    data, out = ROOT / "data" / "toy", ROOT / "runs" / "seeds"
    make_toy_world(data)
    arguments = ["--data", data, "--out", out, "--csv", out / "seeds.csv", "--seeds", args.count]
    run(["-m", "lib.studies", "seeds", *arguments], "not all seeds were run: see above")


def figures(_: argparse.Namespace) -> None:
    """Put the results of the default runs into figures/: what `demo` drew with the presets toy and laptop (of the
    latter what is of real data), and the tables of seeds, studies and benchmarks. What was not run stays as it is.
    """
    found = [path for pattern in TABLES for path in sorted((ROOT / "runs").glob(pattern))]
    for preset in ("toy", "laptop"):
        for notebook in notebooks():
            drawn = sorted((ROOT / "runs" / preset / "figures").glob(f"{notebook.name[:2]}_*"))
            drawn = [path for path in drawn if path.stem.endswith("_real") == (preset == "laptop")]
            reason = not_default(ROOT / "runs" / preset / "notebooks" / notebook.name, preset, drawn)
            if drawn and reason:
                print(f"left out: {notebook.name[:2]}_* of runs/{preset}: {reason}")
            found += [] if reason else drawn
    for path in found:
        folder = ROOT / "figures" / ("" if path.parent.name == "figures" else "measured")
        folder.mkdir(exist_ok=True)
        partial = folder / f".{path.stem}.partial{path.suffix}"
        shutil.copyfile(path, partial)
        os.replace(partial, folder / path.name)
    print(f"put {len(found)} files into figures/")


def not_default(executed: Path, preset: str, drawn: list[Path]) -> str:
    """Why what a notebook drew is not from a default run of `demo`; nothing when it is."""
    if not executed.is_file():
        return "not run by `make.py demo` to its end"
    given = json.loads(executed.read_text(encoding="utf-8"))["metadata"].get("papermill", {}).get("parameters", {})
    default = {"preset": preset, "out_dir": f"runs/{preset}"} | ({} if preset == "toy" else {"data_root": ...})
    as_default = {name for name, value in given.items() if default.get(name) in (value, ...)}
    changed = sorted(name for name, value in given.items() if value is not None and name not in as_default)
    if changed:
        return f"run with another {', '.join(changed)}"
    newer = [path.name for path in drawn if path.stat().st_mtime > executed.stat().st_mtime + 1]
    return f"{newer[0]} was drawn anew by another run" if newer else ""


def lab(_: argparse.Namespace) -> None:
    """Open the notebooks in JupyterLab."""
    set_up()
    run(["-m", "jupyter", "lab", "notebooks"], "JupyterLab ended with an error: see above")


SCORES = "06_evaluation.ipynb"
MAIN = {"01", "02", "03", "06"}  # what `demo` runs: look at the data, train, score
CHAIN = {"02", "03", "06", "11"}  # what trains MAE and SiamMAE, and what reads these runs

TABLES = (
    "seeds/seeds.csv",
    "masking/*.csv",
    "uncertainty/*.csv",
    "ablations/ablations.csv",
    "ablations_real/ablations_real.csv",
    "futures/futures.csv",
    "wavelets/wavelets*.csv",
    "ladder/ladder*.csv",
    "ladder/ladder_pictures.npz",
    "choices/choices.csv",
    "real/real.csv",
    "actions/actions.csv",
    "benchmarks/*.json",
)

# Options that reach the notebooks as the parameters of the same name.
OPTIONS = {
    "preset": (str, "size of the models and of their training: toy, laptop, colab or paper"),
    "data_root": (str, "folder of the data, relative to the repository (default: the toy world, made first)"),
    "out_dir": (str, "folder for results, relative to the repository (default: runs/<preset>)"),
    "epochs": (int, "epochs of pretraining, instead of the preset's"),
    "seed": (int, "seed of all random numbers"),
}


def command_line() -> argparse.ArgumentParser:
    """One subcommand for each command; `run` of what is parsed is its function."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (demo, test, seeds, figures, lab, pins):
        commands.add_parser(command.__name__, help=command.__doc__).set_defaults(run=command)
    for name, (kind, text) in OPTIONS.items():
        commands.choices["demo"].add_argument("--" + name.replace("_", "-"), type=kind, help=text)
    some = {"nargs": 2, "action": "append", "default": [], "metavar": ("NAME", "VALUE")}
    commands.choices["demo"].add_argument("-p", **some, help="any other parameter of the notebooks that have it")
    commands.choices["demo"].add_argument("--all", action="store_true", help="all notebooks")
    commands.choices["demo"].add_argument("--notebooks", help="only these, by number: 02,03")
    commands.choices["seeds"].add_argument("--count", type=int, default=3, help="how many seeds, from 0 (default: 3)")
    commands.choices["test"].add_argument("--only", default="tests", help="one file of unit tests instead of all")
    commands.choices["test"].add_argument("--fast", action="store_true", help="unit tests only")
    return parser


def main() -> int:
    """Read the command line, run one command, tell errors in one line."""
    if sys.version_info < (3, 11):  # noqa: UP036 - whatever the user calls python3 starts this file
        print("error: Python 3.11 or newer is needed; this is", sys.version.split()[0], file=sys.stderr)
        return 2
    args = command_line().parse_args()
    try:
        args.run(args)
    except (Failure, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; run the same command to continue", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
