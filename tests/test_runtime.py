"""Errors in one line, writes that are whole or not at all, quiet progress, run records, Colab's missing packages."""

import io
import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

from lib import runtime
from lib.errors import UserError, cli, unknown
from lib.runtime import (
    atomic_path,
    dataset_root,
    in_threads,
    progress,
    resolve,
    seed_everything,
    write_json,
)

# --- errors -------------------------------------------------------------------------------------------------


def test_a_user_error_is_one_line_in_a_notebook(capsys):
    shell = InteractiveShell()
    shell.run_cell(
        "from lib.errors import UserError\ndef f():\n    raise UserError('no such clip: choose another')\nf()"
    )
    assert "".join(capsys.readouterr()).strip() == "UserError: no such clip: choose another"
    shell.run_cell("1 / 0")
    assert "Traceback" in "".join(capsys.readouterr())  # other errors keep theirs


def test_near_misses_come_first():
    assert str(unknown("preset", "papr", ["toy", "paper"])) == (
        "unknown preset 'papr': did you mean 'paper'? choose one of paper, toy"
    )
    assert str(unknown("size", "x", ["b", "a"])) == "unknown size 'x': choose one of a, b"
    assert str(unknown("size", 7, ["b"])) == "unknown size 7: choose one of b"


def test_a_command_tells_a_user_error_in_one_line_and_exits_with_2(capsys):
    @cli
    def main(path: str, times: int = 1) -> None:
        """What it does."""
        if times > 1:
            raise UserError(f"{path} was read {times} times: once is enough")

    assert main("a.csv", times=2) == 2
    assert capsys.readouterr() == ("", "error: a.csv was read 2 times: once is enough\n")
    assert main("a.csv") == 0
    assert capsys.readouterr() == ("", "")
    assert main.__name__ == "main" and main.__doc__ == "What it does."


def test_a_command_tells_what_the_system_refuses_and_that_it_was_stopped(capsys, tmp_path):
    @cli
    def main(error: Exception | None = None) -> None:
        if error:
            raise error
        (tmp_path / "file" / "below").mkdir()

    (tmp_path / "file").touch()
    assert main() == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'file' / 'below'}: Not a directory\n"
    assert main(KeyboardInterrupt()) == 130 and capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("error", [KeyError("a bug"), OSError("of no file")])
def test_a_command_does_not_hide_other_errors(error):
    @cli
    def main() -> None:
        raise error

    with pytest.raises(type(error)):
        main()


def python(code: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=runtime.REPO_ROOT, capture_output=True, text=True, check=False)


def test_the_exit_status_of_a_real_command():
    body = "def main():\n    raise UserError('no')"
    done = python(f"import sys\nfrom lib.errors import UserError, cli\n@cli\n{body}\nsys.exit(main())")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "error: no\n")


# --- files --------------------------------------------------------------------------------------------------


def test_atomic_file_appears_whole_and_replaces_the_old(tmp_path):
    path = tmp_path / "new" / "a.png"
    for content in ("first", "second"):
        with atomic_path(path) as temporary:
            assert temporary.parent == path.parent and temporary.suffix == ".png" and temporary.name.startswith(".")
            temporary.write_text(content)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == content
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_nothing_written_is_an_error_not_an_empty_file(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_atomic_folders(tmp_path):
    path = tmp_path / "frames"

    def write(content: str, fail: bool = False) -> None:
        with atomic_path(path) as temporary:
            (temporary / "deep").mkdir(parents=True)
            (temporary / "deep" / "0.txt").write_text(content)
            if fail:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        write("half", fail=True)
    assert list(tmp_path.iterdir()) == []
    write("whole")
    with pytest.raises(OSError):
        write("other")  # an existing folder stays
    assert (path / "deep" / "0.txt").read_text() == "whole" and list(tmp_path.iterdir()) == [path]


def test_removing_a_half_written_folder_leaves_what_its_links_point_to(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "a.txt").write_text("precious")
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "out") as temporary:
        temporary.mkdir()
        (temporary / "link").symlink_to(kept, target_is_directory=True)
        raise RuntimeError
    assert (kept / "a.txt").read_text() == "precious" and list(tmp_path.iterdir()) == [kept]


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"b": [1, None]})
    with pytest.raises(TypeError):
        write_json(path, {"b": object()})
    assert json.loads(path.read_text()) == {"b": [1, None]} and list(tmp_path.iterdir()) == [path]


def test_relative_paths_start_at_home(tmp_path, monkeypatch):
    monkeypatch.delenv("SIAMMAE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    assert resolve("data") == runtime.REPO_ROOT / "data" and resolve(tmp_path / "x") == tmp_path / "x"
    assert (runtime.REPO_ROOT / "lib" / "runtime.py").is_file()
    assert resolve("~/x") == Path.home() / "x"
    monkeypatch.setenv("SIAMMAE_HOME", str(tmp_path))
    assert resolve("data") == tmp_path / "data"


def test_the_root_of_a_data_set(tmp_path):
    names = ["DAVIS", "davis"]
    with pytest.raises(UserError, match="nowhere is no folder: give the folder that holds DAVIS or davis"):
        dataset_root(tmp_path / "nowhere", names)
    with pytest.raises(UserError, match="is empty: put DAVIS or davis there"):
        dataset_root(tmp_path, names)
    (tmp_path / "JPEGImages").mkdir()
    assert dataset_root(tmp_path, names) == tmp_path
    (tmp_path / "davis").mkdir()
    assert dataset_root(tmp_path, names).name.lower() == "davis"


def test_a_list_file_may_stand_for_a_data_set(tmp_path):
    path = tmp_path / "videos.csv"
    path.write_text("path\na.mp4\n")
    assert dataset_root(path, ["kinetics400"]) == path


# --- seeds, progress, records -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 2**33 + 5])
def test_seeds_reach_all_three_generators(seed):
    draws = []
    for each in (seed, seed, seed + 1):
        seed_everything(each)
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert draws[0] == draws[1] and all(a != b for a, b in zip(draws[1], draws[2], strict=True))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "variable", "shown"),
    [(Terminal, None, True), (io.StringIO, None, False), (Terminal, "0", False), (io.StringIO, "1", True)],
)
def test_progress_is_shown_on_terminals_only_unless_told_otherwise(monkeypatch, stream, variable, shown):
    monkeypatch.delenv("SIAMMAE_PROGRESS", raising=False)
    if variable is not None:
        monkeypatch.setenv("SIAMMAE_PROGRESS", variable)
    monkeypatch.setattr(sys, "stderr", stream())
    assert list(progress(iter("abc"), "reading", total=3)) == ["a", "b", "c"]
    assert ("reading" in sys.stderr.getvalue()) == shown
    assert shown or sys.stderr.getvalue() == ""


def test_progress_can_be_sent_to_a_terminal_of_another_process(monkeypatch, tmp_path):
    monkeypatch.delenv("SIAMMAE_PROGRESS", raising=False)
    monkeypatch.setenv("SIAMMAE_TERMINAL", str(tmp_path / "terminal"))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert list(progress("abc", "reading")) == ["a", "b", "c"]
    assert sys.stderr.getvalue() == "" and "reading" in (tmp_path / "terminal").read_text()


# --- threads ------------------------------------------------------------------------------------------------


def test_only_the_cores_that_the_process_may_use_count(monkeypatch):
    monkeypatch.setattr(runtime.os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert runtime.cpu_cores() == 3
    monkeypatch.delattr(runtime.os, "sched_getaffinity")
    assert runtime.cpu_cores() == runtime.os.cpu_count()


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_keep_the_order_and_give_the_cores_back(workers):
    torch.set_num_threads(2)
    try:
        found = list(in_threads(lambda x: (x * x, torch.get_num_threads()), range(20), workers))
        assert found == [(x * x, 1 if workers > 1 else 2) for x in range(20)]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_error_ends_the_threads(workers):
    done = []

    def work(x):
        if x == 3:
            raise UserError("item 3 is broken")
        done.append(x)

    with pytest.raises(UserError, match="item 3"):
        list(in_threads(work, range(1000), workers))
    assert len(done) < 1000 and torch.get_num_threads() == 1  # the tests' own number, see conftest.py
    with pytest.raises(UserError, match="workers must be 1 or more, not 0"):
        list(in_threads(work, [], 0))
