"""make.py: a set-up that recovers, notebooks that run whole or fail in one line."""

import os
import sys

import nbformat
import pytest

import make


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """An empty repository of its own for make.py."""
    monkeypatch.setattr(make, "ROOT", tmp_path)
    monkeypatch.setattr(make, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(make, "STAMP", tmp_path / ".venv" / "installed.txt")
    monkeypatch.setattr(make, "REQUIREMENTS", tmp_path / "requirements.txt")
    (tmp_path / "notebooks").mkdir()
    return tmp_path


@pytest.mark.slow
def test_set_up_recovers_from_a_failed_installation(checkout, monkeypatch):
    installed = []

    def install(arguments, problem):
        if "fails" in make.REQUIREMENTS.read_text():
            raise make.Failure(problem)
        installed.append(arguments)

    monkeypatch.setattr(make, "run", install)  # the folder is made for real, pip alone is replaced
    make.REQUIREMENTS.write_text("fails")
    with pytest.raises(make.Failure, match="pip could not install"):
        make.set_up()
    assert make.venv_python().exists() and not make.STAMP.exists()

    leftover = make.VENV / "leftover"
    leftover.touch()
    make.REQUIREMENTS.write_text("numpy")
    make.set_up()
    assert len(installed) == 1 and not leftover.exists()  # an unfinished .venv is started afresh

    leftover.touch()
    make.set_up()
    assert len(installed) == 1  # nothing changed, nothing to do

    make.REQUIREMENTS.write_text("scipy")
    make.set_up()
    assert len(installed) == 2 and leftover.exists()  # a finished .venv is brought up to date in place

    make.REQUIREMENTS.write_text("fails")
    with pytest.raises(make.Failure):
        make.set_up()
    assert not make.STAMP.exists()  # no longer to be trusted


def write_notebook(folder, *sources, name="01_try"):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells[0].metadata.tags = ["parameters"]
    path = folder / "notebooks" / f"{name}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"language_info": {"name": "python"}}), path)
    return path.relative_to(folder)


@pytest.mark.slow
def test_notebooks_run_whole_or_fail_in_one_line(checkout, monkeypatch):
    monkeypatch.setattr(make, "venv_python", lambda: sys.executable)
    notebook = write_notebook(checkout, "epochs, name = 1, 'a'", "assert epochs != 13, 'bad\\nnumber'", "name")
    target = notebook.relative_to("notebooks")

    make.execute(notebook, target, {"epochs": 3, "name": "7"})
    assert [path.name for path in checkout.glob("*.ipynb")] == ["01_try.ipynb"]
    result = nbformat.read(checkout / target, as_version=4).cells[-1].outputs[0]
    assert result.data["text/plain"] == "'7'"  # text stays text

    with pytest.raises(make.Failure) as caught:
        make.execute(notebook, target, {"epochs": 13})
    (line,) = str(caught.value).splitlines()
    assert "01_try.ipynb: cell [3]: AssertionError: bad number" in line and "01_try.failed.ipynb" in line
    assert [path.name for path in checkout.glob("*.ipynb")] == ["01_try.failed.ipynb"]


@pytest.mark.slow
def test_demo_runs_the_chosen_notebooks_with_any_parameter(checkout, monkeypatch, capsys):
    monkeypatch.setattr(make, "venv_python", lambda: sys.executable)
    monkeypatch.setattr(make, "set_up", lambda: None)
    monkeypatch.setattr(make, "make_toy_world", lambda root: None)
    defaults = "preset = 'toy'\ndata_root = 'data/toy'\nout_dir = None\nepochs = None\nsizes = None\nname = ''"
    write_notebook(checkout, defaults, "raise ValueError('not chosen')", name="01_first")
    check = "assert (epochs, sizes, name, out_dir) == (2, [3, 4], '5', 'runs/toy')"
    write_notebook(checkout, defaults, check, name="02_second")

    def demo(*words: str) -> None:
        args = make.command_line().parse_args(["demo", "--preset", "toy", *words])
        args.run(args)

    given = ("--epochs", "2", "-p", "sizes", "[3, 4]", "-p", "name", "'5'")
    demo("--notebooks", "02", *given)
    assert (checkout / "runs" / "toy" / "notebooks" / "02_second.ipynb").is_file()
    write_notebook(checkout, defaults, "pass", name="04_other")
    for words in ((), ("--all",)):
        with pytest.raises(make.Failure, match="01_first.ipynb: cell .*not chosen"):
            demo(*given, *words)
    write_notebook(checkout, defaults, "pass", name="01_first")
    made = checkout / "runs" / "toy" / "notebooks" / "04_other.ipynb"
    demo(*given)
    assert not made.exists()
    demo(*given, "--all")
    assert made.is_file()
    with pytest.raises(make.Failure, match="has a parameter size$"):
        demo("-p", "size", "3")


def test_figures_takes_the_results_of_default_runs_alone(checkout, capsys):
    numbers = ("01", "02", "03", "04")
    for number in numbers:
        write_notebook(checkout, "epochs = None", name=f"{number}_x")
    (checkout / "figures").mkdir()
    (checkout / "figures" / "03_a_toy.png").write_text("old")
    for preset, parameters in (
        ("toy", {}),
        ("laptop", {"preset": "laptop", "data_root": "d", "out_dir": "runs/laptop", "seed": None}),
    ):
        run = checkout / "runs" / preset
        (run / "figures").mkdir(parents=True)
        (run / "notebooks").mkdir()
        for number in numbers:
            given = parameters | ({"epochs": 1} if number == "02" else {})
            notebook = nbformat.v4.new_notebook(metadata={"papermill": {"parameters": given}})
            executed = run / "notebooks" / f"{number}_x.ipynb"
            if number != "03":  # it did not come to its end
                nbformat.write(notebook, executed)
            for kind in ("toy", "real"):
                (run / "figures" / f"{number}_a_{kind}.png").write_text(f"{preset} {kind}")
            if number == "04":  # papermill ran it again, with who knows what
                later = executed.stat().st_mtime + 60
                os.utime(run / "figures" / "04_a_real.png", (later, later))
                os.utime(run / "figures" / "04_a_toy.png", (later, later))
    (checkout / "runs" / "seeds").mkdir()
    (checkout / "runs" / "seeds" / "seeds.csv").write_text("seed\n")

    make.figures(None)
    figures = checkout / "figures"
    found = {path.relative_to(figures).as_posix(): path.read_text() for path in figures.rglob("*.*")}
    assert found == {
        "01_a_toy.png": "toy toy", "01_a_real.png": "laptop real", "measured/seeds.csv": "seed\n",
        "03_a_toy.png": "old",
    }  # fmt: skip
    printed = capsys.readouterr().out
    assert "02_* of runs/toy: run with another epochs" in printed and "03_* of runs/laptop: not run" in printed
    assert "04_* of runs/laptop: 04_a_real.png was drawn anew by another run" in printed


def test_a_broken_kernel_is_told_in_one_line(checkout, monkeypatch):
    monkeypatch.setattr(make, "venv_python", lambda: sys.executable)
    (checkout / "notebooks" / "01_try.ipynb").write_text("{}")
    with pytest.raises(make.Failure) as caught:
        make.execute(make.notebooks()[0], make.Path("out.ipynb"), {})
    assert "\n" not in str(caught.value)


def test_parameters_are_the_literals_of_the_tagged_cell(checkout):
    notebook = write_notebook(checkout, "# sizes\npreset = 'toy'\nepochs = None\n", "other = 1")
    assert make.parameters(notebook) == {"preset": "toy", "epochs": None}


def test_the_environment_leads_nowhere_else(monkeypatch):
    for name in make.UNWANTED:
        monkeypatch.setenv(name, "elsewhere")
    assert not make.UNWANTED & set(make.environment())
    assert make.environment(SIAMMAE_HOME="here")["SIAMMAE_HOME"] == "here"


def test_summary_shows_the_table_and_needs_it(checkout, capsys):
    with pytest.raises(make.Failure, match="metrics.json was not written"):
        make.summary(make.Path("out"), {f"notebooks/{make.SCORES}": 1.0})
    (checkout / "out").mkdir()
    rows = '{"table": [{"system": "A", "J&F": 61.26}, {"system": "longer", "J&F": null}]}'
    (checkout / "out" / "metrics.json").write_text(rows)
    make.summary(make.Path("out"), {"set-up": 2.0, f"notebooks/{make.SCORES}": 3.0})
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:4] == ["system  J&F", "A       61.3", "longer"]
    assert lines[-1].split() == ["5", "s", "total"]
    make.summary(make.Path("elsewhere"), {"notebooks/01_data.ipynb": 1.0})  # without scores there are none to show


@pytest.mark.parametrize("arguments", [["demo", "--epochs", "many"], ["dem"], []])
def test_wrong_arguments_are_refused(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["make.py", *arguments])
    with pytest.raises(SystemExit) as caught:
        make.main()
    assert caught.value.code == 2 and "usage:" in capsys.readouterr().err


def test_failures_are_one_line_and_status_1(checkout, monkeypatch, capsys):
    make.REQUIREMENTS.unlink(missing_ok=True)
    monkeypatch.setattr(sys, "argv", ["make.py", "test"])
    assert make.main() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "requirements.txt" in line
