"""The command line: refuses nonsense in one line before anything is written, and runs what it is asked to."""

import json
import subprocess
import sys

import pytest

from lib import controls, paths, report, reproduce, step
from lib.checks import BadInput


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--profile", "nope"], "profile = 'nope': must be one of"),
        (["--only", "99"], "--only = '99'"),
        (["--only", ","], "--only = ''"),
        (["--seed", "-1"], "--seed = -1"),
        (["--seed", "one"], "invalid int value"),
        (["--jobs", "0"], "--jobs = 0"),
        (["-p", "toy.round=5"], "did you mean 'toy.rounds'"),
        (["-p", "toy.rounds"], "-p = 'toy.rounds': must be KEY=VALUE"),
        (["-p", "toy.k=0"], "toy.k = 0"),
        (["-p", "toy.lam=-1"], "toy.lam = -1"),
        (["-p", "toy.gamma=.nan"], "toy.gamma = nan"),
        (["-p", "toy.menus=some"], "toy.menus = 'some'"),
        (["--profil=quick"], "unrecognized arguments"),
        (["tets"], "invalid choice"),
        (["lab", "--port", "80"], "--port = 80"),
        (["lab", "--only", "99"], "--only = '99'"),
        (["report", "--profile", "nope"], "profile = 'nope': must be one of"),
        (["test", "--jobs", "0"], "--jobs = 0"),
        (["test", "--only", "02"], "--only = '02': must be left out: test does not read it"),
        (["refresh", "--profile", "cifar"], "--profile = 'cifar': must be left out"),
        (["verify", "-p", "toy.k=2"], "-p = ['toy.k=2']: must be left out"),
        (["report", "--reuse-stale"], "--reuse-stale = True: must be left out"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "BUILD", tmp_path / "build")
    assert reproduce.main(arguments) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_browser_that_fails_is_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(reproduce, "BUILD", tmp_path)
    monkeypatch.setattr(report, "BROWSERS", ("false",))
    assert reproduce.main(["report", "--only", "00"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(("value", "place"), [("mine", paths.PROJECT / "mine"), ("", paths.PROJECT / "runs")])
def test_a_relative_folder_is_one_whatever_the_working_directory(value, place, monkeypatch, tmp_path):
    monkeypatch.setenv("CURATED_LOOPS_RUNS", value)
    monkeypatch.chdir(tmp_path)
    assert paths.runs() == place


def test_settings_are_read_as_yaml_scalars():
    assert reproduce.parse_settings(["toy.rounds=5", "toy.lam=0.5", "toy.start=cold", "images.p0_weights="]) == {
        "toy.rounds": 5,
        "toy.lam": 0.5,
        "toy.start": "cold",
        "images.p0_weights": "",
    }


def test_a_value_cannot_make_python_objects():
    with pytest.raises(BadInput, match="plain YAML scalar"):
        reproduce.parse_settings(["toy.k=!!python/object/apply:os.getcwd []"])


def test_notebooks_are_chosen_by_number_or_name_and_once():
    assert [path.stem for path in reproduce.select("03,02")] == ["03_two_moons", "02_gaussian_mixture"]
    assert [path.stem for path in reproduce.select("02_gauss,02")] == ["02_gaussian_mixture"]
    assert len(reproduce.select("")) == len(list(paths.NOTEBOOKS.glob("*.ipynb")))
    with pytest.raises(BadInput):
        reproduce.select("02,17")


def test_a_notebook_runs_headless_and_is_summed_up(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "BUILD", tmp_path / "build")
    assert reproduce.main(["--only", "00", "--seed", "3", "-p", "toy.k=2"]) == 0
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.startswith("00_start_here "))
    figures, held = (int(cell) for cell in row.split()[2:4])
    assert figures == len(list(paths.figures("quick").glob("00_*.png"))) > 0
    assert held > 0
    assert (tmp_path / "build" / "quick" / "00_start_here.ipynb").exists()
    about = json.loads((paths.figures("quick") / "00_loop.json").read_text())
    assert (about["seed"], about["profile"]["toy"]["k"]) == (3, 2)


def test_a_notebook_that_fails_makes_the_command_fail(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "BUILD", tmp_path / "build")
    monkeypatch.setenv("CURATED_LOOPS_FIGURES", "/dev/null/nowhere")
    assert reproduce.main(["--only", "00"]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_headless_runs_are_told_that_nobody_moves_a_slider():
    assert step.ENVIRONMENT[controls.HEADLESS] == "1"


def test_help_needs_no_environment(tmp_path):
    script = tmp_path / "run_all.sh"
    script.write_text((paths.PROJECT / "run_all.sh").read_text())
    done = subprocess.run(["bash", str(script), "--help"], capture_output=True, text=True, check=True)
    assert "--profile" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["run_all.sh"]


def test_every_option_is_in_the_help():
    text = (paths.PROJECT / "run_all.sh").read_text()
    for action in reproduce._parser()._actions:
        for option in action.option_strings:
            assert f"  {option} " in text
        for choice in action.choices or ():
            assert f"  {choice} " in text


def test_the_module_is_what_the_script_calls():
    done = subprocess.run(
        [sys.executable, "-m", "lib.reproduce", "--only", "99"], capture_output=True, cwd=paths.PROJECT
    )
    assert done.returncode == 2
