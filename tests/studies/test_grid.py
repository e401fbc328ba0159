"""Grids: every cell once, whoever dies on the way; budgets, failures, a full disk; rows; the tables' two forms."""

import errno
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from lib import presets
from lib.errors import UserError
from lib.studies import grid
from lib.studies.grid import Row, choose, run_folder, run_grid
from lib.studies.table import chosen, read_table, records, wide, write_table

FORK = multiprocessing.get_context("fork")  # a process that has its imports already
ROWS = [Row("a"), Row("b"), Row("c, alone", seeds=1), Row("late", stage=1)]
CELLS = (
    {("a", s) for s in range(4)} | {("b", s) for s in range(4)} | {("c, alone", 0)} | {("late", s) for s in range(4)}
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(grid, "PAUSE", 0.01)


def say(log: Path, words: str) -> None:
    """A line, whole even where several processes write."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{words}\n".encode())
    os.close(file)


def measure(row: Row, seed: int, folder: Path, log: Path, seconds: float = 0.02) -> list[dict]:
    """Say when it begins, work, say when it ends."""
    say(log, f"begun {row.name}/{seed}")
    time.sleep(seconds)
    say(log, f"done {row.name}/{seed}")
    return records({"x": len(row.name) + seed, "y": seed / 3}, step=10 * seed)


def work(out: Path, seconds: float = 0.02) -> pd.DataFrame | None:
    return run_grid(ROWS, 4, partial(measure, log=out / "log.txt", seconds=seconds), out)


def start(out: Path, seconds: float = 0.02) -> multiprocessing.Process:
    process = FORK.Process(target=work, args=(out, seconds))
    process.start()
    return process


def lines(out: Path, word: str) -> Counter:
    return Counter(
        line.split(" ", 1)[1] for line in (out / "log.txt").read_text().splitlines() if line.startswith(word)
    )


def assert_whole(table: pd.DataFrame) -> None:
    """Each cell is there once, with both of its values."""
    assert sorted(zip(table["row"], table["seed"], table["metric"], strict=True)) == sorted(
        (row, seed, metric) for row, seed in CELLS for metric in "xy"
    )
    found = wide(table)
    assert (found["x"] == found["row"].str.len() + found["seed"]).all()
    assert found["y"].tolist() == pytest.approx((found["seed"] / 3).tolist())


# --- who does what ------------------------------------------------------------------------------------------


def test_two_processes_make_each_cell_once_and_both_get_the_whole_table(tmp_path):
    tmp_path.joinpath("log.txt").touch()
    other = start(tmp_path, 0.05)
    table = work(tmp_path, 0.05)
    other.join(20)
    assert other.exitcode == 0
    assert_whole(table)
    assert set(lines(tmp_path, "begun").values()) == {1} and len(lines(tmp_path, "done")) == len(CELLS)
    order = (tmp_path / "log.txt").read_text().splitlines()
    last = max(place for place, line in enumerate(order) if line.startswith("done") and "late" not in line)
    assert all("late" not in line for line in order[:last]), "a stage waits for the one below"
    pd.testing.assert_frame_equal(work(tmp_path), table)
    assert set(lines(tmp_path, "begun").values()) == {1}, "what is done is never made again"


@pytest.mark.parametrize("seed", range(10))
def test_a_process_that_is_killed_loses_nothing_and_doubles_nothing(tmp_path, seed):
    tmp_path.joinpath("log.txt").touch()
    both = [start(tmp_path), start(tmp_path)]
    rng = random.Random(seed)
    time.sleep(rng.uniform(0.01, 0.3))
    victim = both.pop(rng.randrange(2))
    os.kill(victim.pid, signal.SIGKILL)
    victim.join(20)
    both[0].join(20)
    assert both[0].exitcode == 0, "the other one took its cell over"
    begun, done = lines(tmp_path, "begun"), lines(tmp_path, "done")
    assert set(done) == {f"{row}/{seed}" for row, seed in CELLS}
    again = [name for name, times in begun.items() if times > 1]
    assert len(again) <= 1 and max(begun.values()) <= 2, "only the cell that the killed one had in hand"
    assert_whole(work(tmp_path))
    assert lines(tmp_path, "begun") == begun


def test_all_processes_may_be_killed(tmp_path):
    tmp_path.joinpath("log.txt").touch()
    for _ in range(3):
        both = [start(tmp_path), start(tmp_path)]
        time.sleep(0.08)
        for process in both:
            os.kill(process.pid, signal.SIGKILL)
            process.join(20)
    assert_whole(work(tmp_path))
    assert max(lines(tmp_path, "begun").values()) <= 4


def test_what_another_process_holds_is_passed_over_and_waited_for(tmp_path):
    tmp_path.joinpath("log.txt").touch()
    other = start(tmp_path, 0.4)
    while not lines(tmp_path, "begun"):
        time.sleep(0.005)
    (held,) = lines(tmp_path, "begun")
    table = work(tmp_path, 0)
    assert_whole(table)
    order = [line for line in (tmp_path / "log.txt").read_text().splitlines() if line.startswith("done")]
    assert held.startswith("a/0") and order.index("done a/0") == 8, "the others of its stage came first"
    other.join(20)


# --- budgets and failures -----------------------------------------------------------------------------------


def test_after_the_budget_no_cell_begins_and_there_is_no_table(tmp_path, capsys):
    tmp_path.joinpath("log.txt").touch()
    made = partial(measure, log=tmp_path / "log.txt", seconds=0.1)
    assert run_grid(ROWS, 4, made, tmp_path, minutes=0.25 / 60) is None
    begun = len(lines(tmp_path, "begun"))
    assert 1 <= begun < 6 and f"{13 - begun} of 13 cells are still to do" in capsys.readouterr().out
    assert run_grid(ROWS, 4, made, tmp_path, minutes=0) is None
    assert len(lines(tmp_path, "begun")) == begun
    assert_whole(work(tmp_path))


def test_a_cell_that_fails_is_named_and_the_others_go_on(tmp_path, capsys):
    def broken(row: Row, seed: int, folder: Path) -> list[dict]:
        if (row.name, seed) == ("a", 1):
            raise UserError("the video is gone")
        if (row.name, seed) == ("b", 2):
            raise ZeroDivisionError("a fault of ours")
        return records({"x": len(row.name) + seed, "y": seed / 3})

    assert run_grid(ROWS, 4, broken, tmp_path) is None
    said = capsys.readouterr()
    assert "a, seed 1: failed: the video is gone\n" in said.err and "b, seed 2: failed: a fault" in said.err
    assert "ZeroDivisionError" in said.err and said.err.count("Traceback") == 1
    assert "2 of 13 cells are still to do, 2 of them failed (a, seed 1; b, seed 2)" in said.out
    tmp_path.joinpath("log.txt").touch()
    assert_whole(work(tmp_path))
    assert sorted(lines(tmp_path, "begun")) == ["a/1", "b/2"]


def test_a_full_disk_costs_one_cell_until_there_is_space(tmp_path, monkeypatch, capsys):
    tmp_path.joinpath("log.txt").touch()
    write = pd.DataFrame.to_csv

    def full(frame: pd.DataFrame, path: Path, **given) -> None:
        Path(path).write_text("row,seed,st")  # a part arrives
        if "b-seed1" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(frame, path, **given)

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    assert work(tmp_path, 0) is None
    assert "no space left" in capsys.readouterr().err
    assert not [path for path in (tmp_path / "cells").iterdir() if "partial" in path.name]
    monkeypatch.undo()
    assert_whole(work(tmp_path, 0))
    assert lines(tmp_path, "begun")["b/1"] == 2 and sum(lines(tmp_path, "begun").values()) == 14


def test_parts_of_files_do_not_count(tmp_path):
    tmp_path.joinpath("log.txt").touch()
    (tmp_path / "cells").mkdir()
    for name in (".a-seed0.123.partial.csv", "a-seed0.csv.partial", "a-seed0.lock"):
        (tmp_path / "cells" / name).write_text("row,seed,step,met")
    assert_whole(work(tmp_path, 0))


def test_an_interrupt_ends_it_and_the_cell_is_free_again(tmp_path):
    def interrupted(row: Row, seed: int, folder: Path) -> list[dict]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_grid(ROWS, 4, interrupted, tmp_path)
    tmp_path.joinpath("log.txt").touch()
    assert_whole(work(tmp_path, 0))


def test_rows_whose_names_give_one_file_are_refused(tmp_path):
    with pytest.raises(UserError, match="two rows would write one file"):
        run_grid([Row("beta 0.5"), Row("beta_0.5")], 1, lambda *_: [], tmp_path)


def test_a_folder_is_of_one_grid(tmp_path):
    tmp_path.joinpath("log.txt").touch()
    made = partial(measure, log=tmp_path / "log.txt", seconds=0)
    run_grid([Row("a")], 1, made, tmp_path, about="epochs 1")
    assert len(run_grid([Row("a"), Row("b")], 2, made, tmp_path, about="epochs 1")) == 8, "it may grow"
    with pytest.raises(UserError, match="other settings"):
        run_grid([Row("a")], 1, made, tmp_path, about="epochs 2")


# --- plans and parts ----------------------------------------------------------------------------------------


def finished(out: Path, name: str, seed: int, **more) -> None:
    """A cell's file, as if it had been made."""
    line = {"row": name, "seed": seed, "step": None, "metric": "x", "value": 1.0, "seconds": 5.0, "hardware": "h"}
    path = out / "cells" / f"{run_folder(out, name, seed).name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame([line | more] * 2).to_csv(path, index=False)


def test_a_dry_run_makes_nothing_and_says_how_long_the_rest_would_take(tmp_path, capsys):
    def plan() -> str:
        assert run_grid(ROWS, 4, None, tmp_path, about="other settings", dry_run=True) is None
        return capsys.readouterr().out.strip()

    assert plan().startswith("13 cells, 0 of them done; how long one takes is not known")
    assert not list(tmp_path.iterdir())
    finished(tmp_path, "a", 0)  # before whole cells were timed
    assert plan().startswith("13 cells, 1 of them done; how long one takes is not known")
    finished(tmp_path, "a", 1, cell_seconds=1800.0)
    finished(tmp_path, "late", 3, cell_seconds=5400.0)
    assert plan() == "13 cells, 3 of them done; 10 to do, about 10.0 hours in one process at 3600 s a cell"
    for name, seed in CELLS:
        finished(tmp_path, name, seed, cell_seconds=60.0)
    assert plan() == "13 cells, 13 of them done"
    assert [path.name for path in tmp_path.iterdir()] == ["cells"]
    assert {path.suffix for path in (tmp_path / "cells").iterdir()} == {".csv"}


def test_cells_are_timed_as_a_whole_and_the_table_does_not_tell(tmp_path, capsys):
    def slow(row: Row, seed: int, folder: Path) -> list[dict]:
        time.sleep(0.05)
        return records({"x": 1.0}, seconds=7200.0) + records({"y": 2.0})

    table = run_grid(ROWS, 1, slow, tmp_path)
    assert list(table) == ["row", "seed", "step", "metric", "value", "seconds", "hardware"]
    assert set(table.loc[table["metric"] == "x", "seconds"]) == {7200.0}
    finished(tmp_path, "a", 0, cell_seconds=36000.0)
    run_grid(ROWS, 2, slow, tmp_path, dry_run=True)
    assert capsys.readouterr().out.splitlines()[-1].endswith("3 to do, about 7.5 hours in one process at 9000 s a cell")


def test_a_part_of_the_table_is_there_for_the_asking(tmp_path, capsys):
    tmp_path.joinpath("log.txt").touch()
    made = partial(measure, log=tmp_path / "log.txt", seconds=0.1)
    assert run_grid(ROWS, 4, made, tmp_path, minutes=0, partial=True) is None, "there is nothing yet"
    run_grid(ROWS[:1], 2, made, tmp_path)
    assert run_grid(ROWS, 4, made, tmp_path, minutes=0) is None
    capsys.readouterr()
    table = run_grid(ROWS, 4, made, tmp_path, minutes=0, partial=True)
    assert "11 of 13 cells are still to do" in capsys.readouterr().out
    found = wide(table)
    assert found[["row", "seed"]].to_numpy().tolist() == [["a", 0], ["a", 1]] and found["x"].tolist() == [1, 2]
    assert_whole(run_grid(ROWS, 4, partial(measure, log=tmp_path / "log.txt", seconds=0), tmp_path, partial=True))


def test_a_part_leaves_out_what_failed(tmp_path, capsys):
    def broken(row: Row, seed: int, folder: Path) -> list[dict]:
        if row.name == "b":
            raise UserError("the video is gone")
        return records({"x": 1.0})

    table = run_grid(ROWS, 1, broken, tmp_path, partial=True)
    assert table["row"].tolist() == ["a", "c, alone", "late"]
    assert "1 of them failed (b, seed 0)" in capsys.readouterr().out


# --- rows and tables ----------------------------------------------------------------------------------------


def test_a_rows_changes_are_settings_and_arguments():
    base = presets.get(presets.ADAMAE, "toy")
    settings, arguments = Row("x", {"mask_ratio": 0.5, "loss": "l1"}, length=0.25).settings(base)
    assert settings.mask_ratio == 0.5 and settings.epochs == base.epochs / 4 and arguments == {"loss": "l1"}
    assert settings.warmup_epochs == base.warmup_epochs / 4
    longer, _ = Row("x", length=4).settings(base)
    assert longer.epochs == 4 * base.epochs and longer.warmup_epochs == base.warmup_epochs
    assert Row("untrained", length=0).settings(base) == (base, {})
    with pytest.raises(UserError, match="mask_ratio"):
        Row("x", {"mask_ratio": "half"}).settings(base)


def test_rows_are_chosen_by_name():
    assert choose(ROWS, None) == ROWS and choose(ROWS, ["late", "a"]) == [ROWS[3], ROWS[0]]
    with pytest.raises(UserError, match="unknown row 'lat': did you mean 'late'"):
        choose(ROWS, ["lat"])
    assert run_folder(Path("out"), "4 times, memory's 0.5", 2) == Path("out/4_times_memory_s_0.5-seed2")


def test_a_table_keeps_five_digits_and_every_step(tmp_path):
    found = [{"row": "a", "seed": 0, "seconds": 1 / 3, "hardware": "h"} | r for r in records({"x": 2 / 3}, step=123456)]
    found += [{"row": "a", "seed": 1, "seconds": None, "hardware": "h"} | r for r in records({"x": 1e6, "y": None})]
    write_table(tmp_path / "t.csv", pd.DataFrame(found))
    assert "0.66667" in (tmp_path / "t.csv").read_text()
    table = read_table(tmp_path / "t.csv")
    assert table["step"].tolist()[0] == 123456 and table["step"].isna().tolist() == [False, True, True]
    assert table["value"][1] == 1e6 and pd.isna(table["value"][2]) and pd.isna(table["seconds"][2])


def test_the_wide_form_has_a_line_a_run():
    table = pd.DataFrame(
        [("b", 1, 9, "loss", 2.0), ("b", 1, 9, "x", 7.0), ("a", 0, None, "y", 1.0)],
        columns=["row", "seed", "step", "metric", "value"],
    ).assign(seconds=4.0, hardware="h")
    found = wide(table)
    assert list(found) == ["row", "seed", "steps", "seconds", "loss", "x", "y"]
    assert found["row"].tolist() == ["b", "a"] and found["loss"].tolist()[0] == 2.0 and found["steps"][0] == 9
    assert found["x"].isna().tolist() == [False, True]


def test_chosen_lines_come_in_order_under_new_names():
    rows = pd.DataFrame({"row": ["a", "b", "a", "c"], "seed": [1, 0, 0, 0], "x": [1.0, 2.0, 3.0, 4.0]})
    found = chosen(rows, {"b": "second", "a": "first"}, seeds=1)
    assert list(zip(found["case"], found["x"], strict=True)) == [("second", 2.0), ("first", 3.0)]
    assert chosen(rows, ["a"])["x"].tolist() == [1.0, 3.0]
