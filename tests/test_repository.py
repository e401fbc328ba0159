"""The repository keeps its own rules: pins, style, imports, clean notebooks, commands that exist."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import repository_checks as checks
from safetensors import safe_open

import make

ROOT = make.ROOT
README = ROOT / "README.md"
LIB = sorted((ROOT / "lib").rglob("*.py"))
SCRIPTS = [ROOT / "make.py", *sorted((ROOT / "data_scripts").glob("*.py"))]


def tracked() -> list[Path]:
    """Files under version control; where there is no git (a downloaded archive) those in our folders."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    names = listed.stdout.split("\0") if listed.returncode == 0 else []
    if not names:
        folders = ("lib", "tests", "notebooks", "data_scripts", "figures")
        names = [path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.*")]
    return [ROOT / name for name in names if (ROOT / name).is_file() and "__pycache__" not in str(name)]


NOTEBOOKS = [path for path in tracked() if path.suffix == ".ipynb"]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT / "lib").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def finding(notebook: Path) -> str:
    """The cell in which a notebook finds its repository."""
    code = [cell.source for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]
    return next(source for source in code if "sys.path.insert" in source)


@pytest.mark.parametrize("place", ["notebooks", "", "elsewhere", "other/notebooks"])
def test_a_notebook_finds_its_repository_from_any_folder(place, tmp_path):
    """From its own and the root; elsewhere, in another project too, if who runs it names it; else one line tells."""
    notebook = NOTEBOOKS[0]
    assert len(set(map(finding, NOTEBOOKS))) == 1, "they all do it alike"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "other" / "notebooks").mkdir(parents=True)
    (tmp_path / "other" / "environment.yml").write_text("name: another\n")
    (tmp_path / "other" / "lib").mkdir()
    (tmp_path / "other" / "lib" / "__init__.py").write_text("")
    (tmp_path / "cell.py").write_text(f"repo_url = ''\n{finding(notebook)}\nimport lib.errors\nprint(root)\n")
    inside = place in ("notebooks", "")
    folder = (ROOT if inside else tmp_path) / place
    for words in ([], [notebook], [os.path.relpath(notebook, folder), "-p", "epochs", "2"]):
        shell = ["sh", "-c", f"'{sys.executable}' '{tmp_path / 'cell.py'}'; exit $?", "papermill", *map(str, words)]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(shell, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if inside or words:
            assert done.stdout.strip() == str(ROOT), done.stderr
        else:
            line = done.stderr.strip().splitlines()[-1]
            assert done.returncode and "not in this repository; start in its folder, or tell papermill --cwd" in line


# --- pins, style, imports, sizes ----------------------------------------------------------------------------


def test_environment_yml_holds_the_pins_of_requirements_txt():
    written = make.ENVIRONMENT.read_text()
    assert written == make.environment_yml(), "environment.yml has drifted; repair: python3 make.py pins"
    assert re.findall(r"^      - '(.*)'$", written, flags=re.MULTILINE) == make.pinned()


@pytest.mark.parametrize("pin", make.pinned())
def test_every_pin_is_a_range(pin):
    assert re.fullmatch(r"[\w-]+>=[\d.]+,<[\d.]+(; .+)?", pin), "wanted: name>=lowest,<next"


def test_every_import_is_pinned_or_built_in():
    renamed = {"pillow": "PIL", "pytest-xdist": "xdist", "scikit-image": "skimage", "PyWavelets": "pywt"}
    names = [re.match(r"[\w-]+", pin).group() for pin in make.pinned()]
    known = {renamed.get(name, name) for name in names} | sys.stdlib_module_names | {"lib"}
    known |= {"nbformat", "IPython"}  # come with the pinned notebook tools
    tests = sorted((ROOT / "tests").rglob("*.py"))
    known |= {path.stem for path in tests} | {"tests", "data_scripts"} | {path.stem for path in SCRIPTS}
    for path in [*LIB, *SCRIPTS, *tests]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                unknown = {alias.name.split(".")[0] for alias in node.names} - known
            else:
                absolute = isinstance(node, ast.ImportFrom) and node.level == 0
                unknown = {node.module.split(".")[0]} - known if absolute else set()
            assert not unknown, f"{relative(path)} imports {unknown}: add it to requirements.txt"


def test_make_py_needs_the_standard_library_alone():
    tree = ast.parse((ROOT / "make.py").read_text())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert names and {name.split(".")[0] for name in names} <= sys.stdlib_module_names


def test_ruff_finds_nothing():
    found = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", "."],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("path", LIB, ids=relative)
def test_lib_imports_follow_the_table(path):
    module = module_name(path)
    if module:  # lib/__init__.py is the package itself
        assert checks.import_problems(path.read_text(), module) == []
    else:
        assert list(checks.imported(path.read_text(), "")) == []


@pytest.mark.parametrize("path", [*LIB, *SCRIPTS], ids=relative)
def test_modules_and_functions_are_short(path):
    # make.py is one file on purpose: it starts from a bare checkout, where it must not lean on lib
    lines = 420 if path.name == "make.py" else 300
    assert checks.size_problems(path.read_text(), relative(path), module_lines=lines) == []


# --- committed files ----------------------------------------------------------------------------------------


def test_no_committed_file_is_large():
    sizes = {relative(path): path.stat().st_size for path in tracked()}
    assert {name: size for name, size in sizes.items() if size > 3_000_000} == {}


def test_committed_weights_are_small_and_say_what_made_them():
    files = [path for path in tracked() if path.parent == ROOT / "notebooks" / "weights"]
    assert sum(path.stat().st_size for path in files) < 15_000_000
    weights = [path for path in files if path.suffix == ".safetensors"]
    assert weights
    for path in weights:
        with safe_open(path, "pt") as file:
            about = file.metadata()
            kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 - it is no dict
        assert len(json.loads(about["sha256"])) == 64 and kinds == {"F16"}
        assert checks.command_problems(json.loads(about["command"]).split(), ROOT) == []


def test_no_committed_text_names_a_path_of_some_machine():
    found = []
    for path in tracked():
        content = path.read_bytes()
        if path.suffix != ".ipynb" and b"\0" not in content:  # notebooks and images have their own tests
            for number, line in enumerate(content.decode().splitlines(), start=1):
                if checks.MACHINE_PATH.search(line):
                    found.append(f"{relative(path)}:{number}: {line}")
    assert found == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=relative)
def test_notebook_is_clean(path):
    assert checks.notebook_problems(nbformat.read(path, as_version=4)) == []


def test_every_option_of_the_demo_is_a_parameter_of_some_notebook():
    if not NOTEBOOKS:
        pytest.skip("no notebooks yet")
    known = [make.parameters(path) for path in NOTEBOOKS]
    assert set(make.OPTIONS) <= {name for names in known for name in names}
    for name in ("data_root", "out_dir"):  # one folder for all: each notebook finds what the one before made
        assert len({names[name] for names in known if name in names}) == 1


def test_figures_are_pictures_or_the_numbers_behind_them():
    figures = [path for path in tracked() if (ROOT / "figures") in path.parents]
    assert [relative(path) for path in figures if path.suffix not in (".png", ".csv", ".gif", ".json", ".npz")] == []


# --- documented commands ------------------------------------------------------------------------------------


def test_readme_commands_exist():
    if not README.is_file():
        pytest.skip("no README.md yet")
    text = README.read_text(encoding="utf-8")
    documented = checks.commands(text)
    assert ["python3", "make.py", "demo"] in documented and ["python3", "make.py", "test"] in documented
    assert checks.document_problems(text, ROOT) == []
    assert NOTEBOOKS, "README.md promises notebooks"


def test_ci_runs_the_test_command():
    script = ROOT / ".ci" / "run"
    lines = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "set -eu" and lines[-1].endswith("python3 make.py test")
    assert os.access(script, os.X_OK)


# --- the checks themselves: each must find a planted fault --------------------------------------------------


@pytest.mark.parametrize(
    ("module", "source", "problems"),
    [
        ("training", "from lib.models.mae import MAE", 1),
        ("presets.video", "from lib.models.mae import MAE", 1),
        ("score.davis", "from lib.plots.style import finish", 1),
        ("toyworld.pairs", "from lib.studies.grid import run", 1),
        ("training", "def f():\n    import lib.models", 1),
        ("models.mae", "from ..data import video", 1),
        ("models.mae", "from .vit import Encoder\nfrom lib.tokens.masking import random_mask", 0),
        ("models.mae", "from lib import presets", 1),
        ("data.clips", "from .video import read_frames", 0),
        ("data.clips", "from lib.toyworld import generate", 1),
        ("runtimes", "import torch", 1),  # no such row
    ],
)
def test_import_check(module, source, problems):
    assert len(checks.import_problems(source, module)) == problems


def test_size_check():
    long = "def f():\n    '''Two\n    lines.'''\n" + "    x = 1\n" * 45
    assert checks.size_problems(long, "m.py") == ["m.py: f has 46 lines, at most 45"]
    assert checks.size_problems(long.replace("    x = 1\n", "", 1), "m.py") == []
    assert len(checks.size_problems("x = 1\n" * 301, "m.py")) == 1


def good_notebook() -> nbformat.NotebookNode:
    """The smallest notebook without a fault."""
    cells = [
        nbformat.v4.new_markdown_cell("# Title"),
        nbformat.v4.new_code_cell("preset = 'toy'\nepochs = None", execution_count=1),
        nbformat.v4.new_code_cell("%matplotlib inline\nassert preset", execution_count=2),
    ]
    cells[1].metadata.tags = ["parameters"]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def test_a_clean_notebook_has_no_problems():
    assert checks.notebook_problems(good_notebook()) == []


OUTPUTS = {
    "stderr": nbformat.v4.new_output("stream", name="stderr", text="warning"),
    "progress bar": nbformat.v4.new_output("stream", name="stdout", text="30%|###   | 3/10"),
    "image/svg": nbformat.v4.new_output("display_data", {"image/svg+xml": "<svg/>"}),
    "error": nbformat.v4.new_output("error", ename="ValueError", evalue="bad", traceback=[]),
    "widget": nbformat.v4.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}}),
    "machine path": nbformat.v4.new_output("display_data", {"text/plain": "/home/" + "someone/x.png"}),
}


@pytest.mark.parametrize("fault", OUTPUTS)
def test_notebook_check_finds_bad_outputs(fault):
    notebook = good_notebook()
    notebook.cells[2].outputs = [OUTPUTS[fault]]
    (problem,) = checks.notebook_problems(notebook)
    assert fault in problem


def test_notebook_check_finds_bad_cells():
    def problem_after(change) -> str:
        notebook = good_notebook()
        change(notebook)
        (problem,) = checks.notebook_problems(notebook)
        return problem

    assert "kernel" in problem_after(lambda nb: nb.metadata.kernelspec.update(name="siammae"))
    assert "language" in problem_after(lambda nb: nb.metadata.pop("language_info"))
    assert "valid" in problem_after(lambda nb: nb.cells[0].update(surprise=1))
    assert "execution counts [1, None]" in problem_after(lambda nb: nb.cells[2].update(execution_count=None))
    assert "asserts" in problem_after(lambda nb: nb.cells[2].update(source="print(preset)"))
    assert "0 cells tagged" in problem_after(lambda nb: nb.cells[1].metadata.update(tags=[]))
    assert "not `name = literal`" in problem_after(lambda nb: nb.cells[1].update(source="epochs = len('ab')"))
    assert "machine path" in problem_after(lambda nb: nb.cells[0].update(source="/home/" + "notes.md"))


def test_machine_paths_are_told_from_other_paths():
    for text in ("/home/" + "ann/x", "'" + "/Users/" + "ann'", "C:" + "\\Users\\" + "ann"):
        assert checks.MACHINE_PATH.search(text), text
    for text in ("https://a.org/home/page", "~/home/x", "data/tmp/x", "/content/repo", "tests/root/x"):
        assert not checks.MACHINE_PATH.search(text), text


def test_commands_are_read_from_markdown():
    text = "```bash\n$ cd x && A=1 python3 a.py \\\n  --b 1  # why\n# words\n```\n```python\nimport x\n```"
    assert checks.commands(text) == [["cd", "x"], ["python3", "a.py", "--b", "1"]]


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("python3 make.py demo --seed 1", ""),
        ("python3 make.py test --fast", ""),
        ("python3 make.py test --seed 1", "no option --seed"),
        ("python3 make.py demonstrate", "no subcommand demonstrate"),
        ("python3 nowhere.py", "no such script"),
        ("python3 -m lib.nowhere", "no module lib.nowhere"),
        ("pip install -r requirements.txt", ""),
        ("conda env create -f env.yml", "no file env.yml"),
        ("bash .ci/run", ""),
        ("./run", "no file ./run"),
        ("frobnicate --now", "unknown program"),
        ("tensorboard --logdir runs", ""),
        ("jupyter lab notebooks", ""),
        ("jupyter frobnicate", "no program jupyter-frobnicate"),
        ("jupyter nbconvert --to script notebooks/99.ipynb", "no notebook"),
        ("accelerate launch make.py", ""),
        ("accelerate launch runs/99.py", "nothing makes runs/99.py"),
        ("papermill notebooks/99.ipynb out.ipynb -k python3", "no notebook"),
    ],
)
def test_command_check(command, problem):
    found = checks.command_problems(command.split(), ROOT)
    assert found == [] if not problem else len(found) == 1 and problem in found[0]


def test_a_command_may_use_what_an_earlier_one_makes(tmp_path):
    (tmp_path / "a.ipynb").touch()
    convert, launch = "jupyter nbconvert --to python a.ipynb --output-dir out", "accelerate launch out/a.py"

    def problems(*lines: str) -> list[str]:
        return checks.document_problems("```bash\n" + "\n".join(lines) + "\n```\n", tmp_path)

    assert problems(convert, launch) == []
    elsewhere, text = convert.replace("out", "o"), convert.replace("python", "script")
    for lines in ([launch, convert], [elsewhere, launch], [text, launch]):
        (problem,) = problems(*lines)
        assert "nothing makes out/a.py" in problem


def test_papermill_commands_are_checked_against_the_parameters_cell(tmp_path):
    nbformat.write(good_notebook(), tmp_path / "a.ipynb")

    def problems(command: str) -> list[str]:
        return checks.command_problems(command.split(), tmp_path)

    assert problems("papermill a.ipynb b.ipynb -k python3 -p preset toy -p epochs 3") == []
    (problem,) = problems("python3 -m papermill a.ipynb b.ipynb -k python3 -p epoch 3")
    assert "no parameter epoch" in problem
    (problem,) = problems("papermill a.ipynb b.ipynb")
    assert "-k python3" in problem
