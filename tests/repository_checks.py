"""Checks of the repository itself. Each returns the problems it found as lines of text; none means clean."""

import ast
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Set
from functools import cache
from importlib import metadata
from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager

import make

# Which folder of lib may import which others. Models know no data, the loop knows no models, evaluation knows neither;
# studies, benchmarks and notebooks join them. Nothing imports studies, and only notebooks import plots.
ROOT = ("errors", "runtime", "provenance", "checkpoints", "training")
JOINS = (*ROOT, "presets", "tokens", "models", "data", "toyworld")
ALLOWED = {
    "errors": (),
    "libraries": ("errors",),
    "runtime": ("errors",),
    "provenance": ("runtime",),
    "checkpoints": ("errors", "runtime"),
    "training": ("errors", "runtime", "checkpoints"),
    "presets": ("errors", "presets"),
    "tokens": ("errors", "tokens"),
    "models": ("errors", "libraries", "runtime", "tokens", "models"),
    "data": ("errors", "libraries", "runtime", "tokens", "data"),
    "toyworld": ("errors", "runtime", "data", "toyworld"),
    "fetch": ("errors", "runtime", "data", "fetch"),
    "evaluation": ("errors", "libraries", "runtime", "tokens", "evaluation"),
    "score": ("errors", "runtime", "data", "evaluation", "score"),
    "plots": ("errors", "runtime", "tokens", "evaluation", "plots"),
    "track": ("errors", "runtime", "data", "models", "evaluation", "track"),
    "studies": (*JOINS, "evaluation", "score", "studies"),
    "benchmark": (*JOINS, "fetch", "evaluation", "score", "benchmark"),
}
ROOTS = "home|root|Users|tmp|work|private/var|var/folders"
MACHINE_PATH = re.compile(rf"(?<![\w.~$}}-])/(?:{ROOTS})/\w+|[A-Z]:\\+Users\\+\w+")
PROGRESS = re.compile(r"\r|\d%\||\bit/s\b|\bs/it\b")


# --- lib ----------------------------------------------------------------------------------------------------


def within(name: str, group: str) -> bool:
    """Whether the dotted `name` is `group` or lies in it."""
    return name == group or name.startswith(group + ".")


def imported(source: str, module: str) -> Iterator[str]:
    """Dotted names below `lib` that the source of `lib.<module>` imports, wherever in the file."""
    package = ["lib", *module.split(".")[:-1]]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            # `from lib.data import video` may name a module: both spellings are checked
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.removeprefix("lib").lstrip(".") for name in names if within(name, "lib"))


def import_problems(source: str, module: str) -> list[str]:
    """Forbidden arrows out of `lib.<module>`."""
    rows = [group for group in ALLOWED if within(module, group)]
    if not rows:
        return [f"lib.{module}: no row in the table of allowed imports"]
    allowed = ALLOWED[max(rows, key=len)]
    return [
        f"lib.{module} must not import lib.{name}"
        for name in imported(source, module)
        if not any(within(name, group) for group in allowed)
    ]


def size_problems(source: str, where: str, module_lines: int = 300, function_lines: int = 45) -> list[str]:
    """Modules and functions too long to read in one sitting; a function's docstring is not counted."""
    lines = len(source.splitlines())
    problems = [f"{where}: {lines} lines, at most {module_lines}"] if lines > module_lines else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            if ast.get_docstring(node) is not None:
                length -= node.body[0].end_lineno - node.body[0].lineno + 1
            if length > function_lines:
                problems.append(f"{where}: {node.name} has {length} lines, at most {function_lines}")
    return problems


# --- notebooks ----------------------------------------------------------------------------------------------


def notebook_problems(notebook: nbformat.NotebookNode) -> list[str]:
    """What would hinder papermill or nbval, or would show a reader more than the results."""
    problems = []
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        problems.append(f"not a valid notebook: {error.message}")
    kernel = notebook.metadata.get("kernelspec", {}).get("name")
    if kernel != "python3":
        problems.append(f"the kernel must be python3, not {kernel}")
    if notebook.metadata.get("language_info", {}).get("name") != "python":
        problems.append("no language_info: papermill could not set parameters")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code]
    if counts != list(range(1, len(code) + 1)):
        problems.append(f"not executed from top to bottom in one go: execution counts {counts}")
    trees = [ast.parse(TransformerManager().transform_cell(cell.source)) for cell in code]
    if not any(isinstance(node, ast.Assert) for tree in trees for node in ast.walk(tree)):
        problems.append("no cell asserts anything")
    problems += parameter_problems(code)
    for number, cell in enumerate(code, start=1):
        found = [problem for output in cell.outputs for problem in output_problems(output)]
        problems += [f"code cell {number}: {problem}" for problem in found]
    problems += [f"machine path {path!r}" for text in texts(notebook) for path in MACHINE_PATH.findall(text)]
    return problems


def parameter_problems(code: list[nbformat.NotebookNode]) -> list[str]:
    """Papermill needs one cell tagged `parameters`; only literals survive an override."""
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        return [f"{len(tagged)} cells tagged `parameters`, exactly one is needed"]
    problems = []
    for node in ast.parse(tagged[0].source).body:
        try:
            assert isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
            ast.literal_eval(node.value)
        except (AssertionError, ValueError):
            problems.append(f"parameters cell: not `name = literal`: {ast.unparse(node)}")
    return problems


def output_problems(output: nbformat.NotebookNode) -> list[str]:
    """What a committed output must not be."""
    problems = []
    if output.output_type == "error":
        problems.append(f"error {output.ename}: {output.evalue}")
    if output.output_type == "stream" and output.name == "stderr":
        problems.append(f"stderr: {output.text.strip()[:80]}")
    if output.output_type == "stream" and PROGRESS.search(output.text):
        problems.append(f"residue of a progress bar: {output.text.strip()[:80]!r}")
    for kind in output.get("data", {}):
        if kind.startswith("image/") and kind != "image/png":
            problems.append(f"figure as {kind}: PNG alone compares well")
        if "widget" in kind:
            problems.append("a widget, which most viewers cannot show")
    return problems


def texts(notebook: nbformat.NotebookNode) -> Iterator[str]:
    """All text that the notebook holds: sources, outputs, metadata; not the bytes of its images."""
    yield str(notebook.metadata)
    for cell in notebook.cells:
        yield cell.source
        yield str(cell.metadata)
        for output in cell.get("outputs", []):
            yield output.get("text", "")
            yield "\n".join(output.get("traceback", []))
            data = output.get("data", {})
            yield from (str(data[kind]) for kind in data if not kind.startswith("image/"))


# --- commands in documents ----------------------------------------------------------------------------------

# Programs that a reader has, or gets from elsewhere: their own options are not ours to check.
ELSEWHERE = {"git", "cd", "conda", "source", "pip", "mkdir", "tar", "unzip", "curl", "wget"}


def commands(markdown: str) -> list[list[str]]:
    """The commands in ```bash blocks, each as words; comments, prompts and variable settings removed."""
    found = []
    for block in re.findall(r"^```(?:bash|sh|shell|console)\n(.*?)^```", markdown, flags=re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|;|\|", line.strip().removeprefix("$ ")):
                words = shlex.split(part, comments=True)
                while words and re.fullmatch(r"[A-Za-z_]\w*=.*", words[0]):
                    words.pop(0)
                if words:
                    found.append(words)
    return found


def document_problems(markdown: str, root: Path) -> list[str]:
    """Problems of a document's commands in its order: what one makes is there for the later ones."""
    problems, made = [], set()
    for words in commands(markdown):
        problems += command_problems(words, root, made)
        made |= converted(words)
    return problems


def converted(words: list[str]) -> set[str]:
    """The script that `jupyter nbconvert --to python X.ipynb --output-dir D` makes; nothing for other commands.

    `--to script` does not count: where a notebook's metadata name no file extension, as ours, it writes a .txt.
    """
    given = dict(zip(words, words[1:], strict=False))
    if words[:2] != ["jupyter", "nbconvert"] or given.get("--to") != "python":
        return set()
    notebooks = [Path(word) for word in words if word.endswith(".ipynb")]
    return {(Path(given.get("--output-dir", path.parent)) / path.stem).as_posix() + ".py" for path in notebooks}


@cache
def console_scripts() -> set[str]:
    """Programs that the pinned packages install."""
    names = {re.match(r"[\w-]+", pin).group() for pin in make.pinned() if ";" not in pin}  # others may be absent
    entries = [entry for name in names for entry in metadata.distribution(name).entry_points]
    return {entry.name for entry in entries if entry.group == "console_scripts"}


def command_problems(words: list[str], root: Path, made: Set[str] = frozenset()) -> list[str]:
    """Why a documented command cannot work: a missing file or module, an unknown option or parameter.

    `made`: scripts that earlier commands leave behind.
    """
    program, *rest = words
    program = re.sub(r"^\.venv/(bin|Scripts)/", "", program)
    shown = " ".join(words)
    if re.fullmatch(r"python[0-9.]*", program):
        if rest[:1] == ["-m"]:
            return module_problems(rest[1], rest[2:], root, shown)
        if not rest or not (root / rest[0]).is_file():
            return [f"`{shown}`: no such script"]
        return option_problems([rest[0]], rest[1:], root, shown)
    if program == "papermill":
        return papermill_problems(rest, root, shown)
    if program == "jupyter":
        return jupyter_problems(rest, root, shown)
    if program in console_scripts():
        scripts = [word for word in rest if word.endswith(".py")] if program == "accelerate" else []
        absent = [script for script in scripts if script not in made and not (root / script).is_file()]
        return [f"`{shown}`: nothing makes {script}" for script in absent]
    if program in ("bash", "sh") or "/" in program:
        script = rest[0] if program in ("bash", "sh") else program
        return [] if (root / script).is_file() else [f"`{shown}`: no file {script}"]
    if program not in ELSEWHERE:
        return [f"`{shown}`: unknown program {program}"]
    files = [word for flag, word in zip(rest, rest[1:], strict=False) if flag in ("-r", "-f")]
    return [f"`{shown}`: no file {file}" for file in files if not (root / file).is_file()]


def module_problems(module: str, rest: list[str], root: Path, shown: str) -> list[str]:
    """Problems of `python -m module rest`."""
    if module == "papermill":
        return papermill_problems(rest, root, shown)
    if within(module, "lib"):
        path = root.joinpath(*module.split("."))
        if not (path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()):
            return [f"`{shown}`: no module {module}"]
        return option_problems(["-m", module], rest, root, shown)
    return [] if importlib.util.find_spec(module) else [f"`{shown}`: no module {module}"]


def papermill_problems(rest: list[str], root: Path, shown: str) -> list[str]:
    """The notebook must exist and know each parameter; without `-k python3` a foreign kernel name stops."""
    notebook = next((word for word in rest if word.endswith(".ipynb")), "")
    if not (root / notebook).is_file():
        return [f"`{shown}`: no notebook {notebook!r}"]
    given = [name for flag, name in zip(rest, rest[1:], strict=False) if flag in ("-p", "-r")]
    known = make.parameters(root / notebook)
    problems = [f"`{shown}`: {notebook} has no parameter {name}" for name in given if name not in known]
    return problems if "-k python3" in " ".join(rest) else [*problems, f"`{shown}`: needs -k python3"]


def jupyter_problems(rest: list[str], root: Path, shown: str) -> list[str]:
    """The subcommand must be installed beside this Python, and the notebooks must exist."""
    name = f"jupyter-{rest[0]}"
    if not shutil.which(name, path=str(Path(sys.executable).parent)):
        return [f"`{shown}`: no program {name}"]
    notebooks = [word for word in rest if word.endswith(".ipynb")]
    return [f"`{shown}`: no notebook {notebook!r}" for notebook in notebooks if not (root / notebook).is_file()]


def option_problems(start: list[str], rest: list[str], root: Path, shown: str) -> list[str]:
    """Subcommands and options must appear in what `--help` prints."""
    text = help_text((*start,), root)
    while rest and not rest[0].startswith("-") and re.search(r"\{[\w,-]+\}", text.split("\n\n")[0]):
        if rest[0] not in re.search(r"\{([\w,-]+)\}", text).group(1).split(","):
            return [f"`{shown}`: no subcommand {rest[0]}"]
        start, rest = [*start, rest[0]], rest[1:]
        text = help_text((*start,), root)
    if not text.startswith("usage:"):
        return [f"`{shown}`: `--help` prints no usage: {text.strip()[-200:]}"]
    options = [word.split("=")[0] for word in rest if re.match(r"--?[a-zA-Z]", word)]
    return [
        f"`{shown}`: no option {option}"
        for option in options
        if not re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text)
    ]


@cache
def help_text(start: tuple[str, ...], root: Path) -> str:
    """What the command prints for `--help`."""
    done = subprocess.run(
        [sys.executable, *start, "--help"], cwd=root, capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout or done.stderr
