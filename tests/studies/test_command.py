"""The command line of the studies, with a study whose cells take no time."""

from types import SimpleNamespace

import pytest

from lib.studies import __main__ as command
from lib.studies.grid import Row, run_grid
from lib.studies.table import read_table, records


@pytest.fixture
def study(monkeypatch):
    """A study of two rows whose cells take no time."""
    rows = (Row("a b"), Row("once", seeds=1))

    def run(data, out, epochs, **grid):
        study.given = data, epochs
        return run_grid(measure=lambda row, seed, folder: records({"x": seed / 3}), out=out, **grid)

    study = SimpleNamespace(ROWS=rows, run=run)
    monkeypatch.setattr(command, "STUDIES", {"tiny": (study, "a tiny study")})
    return study


def test_the_command_writes_the_table(study, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = ["tiny", "--data", "d", "--out", "runs/tiny", "--epochs", "0.5"]
    assert command.main([*given, "--seeds", "2"]) == 0
    assert study.given == (tmp_path / "d", 0.5)
    table = read_table(tmp_path / "runs" / "tiny" / "tiny.csv")
    assert list(table.columns) == ["row", "seed", "step", "metric", "value", "seconds", "hardware"]
    assert table[["row", "seed"]].to_numpy().tolist() == [["a b", 0], ["a b", 1], ["once", 0]]
    assert capsys.readouterr().out.splitlines()[-1] == f"wrote {tmp_path / 'runs/tiny/tiny.csv'}"
    assert command.main([*given, "--rows", "once", "--csv", "some.csv"]) == 0
    assert read_table(tmp_path / "some.csv")["row"].tolist() == ["once"]


def test_a_dry_run_writes_nothing_and_is_no_failure(study, tmp_path, capsys):
    given = ["tiny", "--data", "d", "--out", str(tmp_path / "runs"), "--seeds", "2"]
    assert command.main([*given, "--dry-run"]) == 0
    assert "3 cells, 0 of them done" in capsys.readouterr().out and not (tmp_path / "runs").exists()
    command.main(given)
    assert command.main([*given, "--dry-run"]) == 0 and "3 cells, 3 of them done" in capsys.readouterr().out


def test_a_part_of_the_table_is_written_when_asked_for(study, tmp_path, capsys):
    given = ["tiny", "--data", "d", "--out", str(tmp_path)]
    command.main([*given, "--rows", "once", "--csv", str(tmp_path / "once.csv")])
    assert command.main([*given, "--partial", "--minutes", "0"]) == 0
    assert read_table(tmp_path / "tiny.csv")["row"].tolist() == ["once"]
    assert "3 of 4 cells are still to do" in capsys.readouterr().out


def test_where_there_is_nothing_no_part_is_written_and_the_status_is_1(study, tmp_path):
    with pytest.raises(SystemExit) as caught:
        command.main(["tiny", "--data", "d", "--out", str(tmp_path), "--partial", "--minutes", "0"])
    assert caught.value.code == 1 and not (tmp_path / "tiny.csv").exists()


def test_a_preset_is_chosen_where_a_study_has_scales(study, tmp_path, capsys):
    given = ["tiny", "--data", "d", "--out", str(tmp_path), "--dry-run"]
    with pytest.raises(SystemExit):
        command.main([*given, "--preset", "laptop"])
    assert "unrecognized arguments: --preset laptop" in capsys.readouterr().err
    plain, study.SCALES, seen = study.run, {"toy": {}, "laptop": {}}, []
    study.run = lambda *args, preset, **grid: [seen.append(preset), plain(*args, **grid)][1]
    assert command.main(given) == 0 and command.main([*given, "--preset", "laptop"]) == 0
    assert seen == ["toy", "laptop"]
    with pytest.raises(SystemExit):
        command.main([*given, "--preset", "paper"])


@pytest.mark.parametrize("name", command.STUDIES)
def test_a_dry_run_of_a_study_leaves_the_disk_alone(name, tiny_preset, tiny_world, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command.masking, "list_studio", lambda *_: None)  # the tiny world has none
    assert command.main([name, "--data", str(tiny_world), "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    assert "cells, 0 of them done" in capsys.readouterr().out and not (tmp_path / "out").exists()


def test_without_all_cells_there_is_no_table_and_the_status_is_1(study, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        command.main(["tiny", "--data", "d", "--out", str(tmp_path), "--minutes", "0"])
    assert caught.value.code == 1 and "4 of 4 cells are still to do" in capsys.readouterr().out
    assert not (tmp_path / "tiny.csv").exists()


@pytest.mark.parametrize(
    ("words", "said"), [(["--rows", "twice"], "unknown row 'twice'"), (["--seeds", "0"], "0 seeds: give 1 or more")]
)
def test_wrong_values_are_told_in_one_line(study, words, said, tmp_path, capsys):
    assert command.main(["tiny", "--data", "d", "--out", str(tmp_path), *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_the_studies_there_are():
    known = ["masking", "uncertainty", "seeds", "ablations", "choices", "real", "actions", "futures", "wavelets",
             "ladder", "sensitivity"]  # fmt: skip
    assert list(command.STUDIES) == known
    with pytest.raises(SystemExit) as caught:
        command.main(["masking", "--help"])
    assert caught.value.code == 0
