"""The command line: refuses nonsense in one line before anything is written, and runs what it is asked to."""

import json
import os
import re
import subprocess
import sys

import pytest

from lib import controls, datasets, paths, products, profiles, report, reproduce, step, workflow
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
        (["-p", "toy.rounds=yes"], "toy.rounds = True: must be a number"),
        (["-p", "toy.lam=off"], "toy.lam = False: must be a number"),
        (["-p", "images.channels=[32, on]"], "images.channels = [32, True]: must be a list of numbers"),
        (["-p", "toy.k=2", "-p", "toy.k=3"], "-p = 'toy.k=3': must be the only one for toy.k"),
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
        (["verify", "--profile", "quick"], "--profile = 'quick': must be left out"),
        (["setup", "--jobs", str(os.cpu_count())], f"--jobs = {os.cpu_count()}: must be left out"),
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
    monkeypatch.setenv("CURATED_LOOPS_FIGURES", str(paths.PROJECT / "paper_figs"))
    monkeypatch.setattr(report, "BROWSERS", ("false",))
    assert reproduce.main(["report", "--only", "00"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(("value", "place"), [("mine", paths.PROJECT / "mine"), ("", paths.PROJECT / "runs")])
def test_a_relative_folder_is_one_whatever_the_working_directory(value, place, monkeypatch, tmp_path):
    monkeypatch.setenv("CURATED_LOOPS_RUNS", value)
    monkeypatch.chdir(tmp_path)
    assert paths.runs() == place


def test_settings_are_read_as_yaml():
    settings = ["toy.rounds=5", "toy.lam=0.5", "toy.start=cold", "images.p0_weights="]
    assert reproduce.parse_settings([*settings, "images.flip=yes", "images.channels=[32, 64]"]) == {
        "toy.rounds": 5,
        "toy.lam": 0.5,
        "toy.start": "cold",
        "images.p0_weights": "",
        "images.flip": True,
        "images.channels": [32, 64],
    }


def test_a_value_cannot_make_python_objects():
    with pytest.raises(BadInput, match="must be a YAML value"):
        reproduce.parse_settings(["toy.k=!!python/object/apply:os.getcwd []"])


def test_notebooks_are_chosen_by_number_or_name_and_once():
    assert [path.stem for path in reproduce.select("03,02")] == ["03_two_moons", "02_gaussian_mixture"]
    assert [path.stem for path in reproduce.select("02_gauss,02")] == ["02_gaussian_mixture"]
    assert len(reproduce.select("")) == len(list(paths.NOTEBOOKS.glob("*.ipynb")))
    with pytest.raises(BadInput):
        reproduce.select("02,17")


def test_claims_without_a_verdict_are_neither_held_nor_missed(tmp_path):
    path = tmp_path / "02_x_claims.csv"
    path.write_text("claim,ours\na,holds\nb,does not hold\nc,too close to call\nd,holds\n")
    assert reproduce._count_claims(path) == (2, 1)


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


@pytest.mark.parametrize("error", [None, "no room"])
def test_a_report_that_fails_makes_the_command_fail(error, capsys, monkeypatch):
    products.verdicts([], "00_start_here", profiles.load("quick"), seed=0)
    news = {name: step.News(name, 1.0, None) for name in ("00_start_here", "report")}
    news["report"] = step.News("report", 1.0, error)
    monkeypatch.setattr(workflow, "run", lambda *_, **__: news)
    assert reproduce.main(["--only", "00"]) == int(error is not None)
    assert ("Report: " in capsys.readouterr().out) is (error is None)


@pytest.mark.parametrize(
    ("arguments", "order"),
    [
        (["--profile", "cifar", "--only", "05,06"], ["data", "jobs"]),
        (["--profile", "cifar", "--only", "01,02"], ["jobs"]),
        (["--only", "04"], ["jobs"]),
    ],
)
def test_cifar10_is_fetched_once_before_the_jobs_that_read_it(arguments, order, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(reproduce, "BUILD", tmp_path)
    monkeypatch.setattr(datasets, "cifar10", lambda train: seen.append("data"))
    monkeypatch.setattr(workflow, "run", lambda *_, **__: seen.append("jobs") or {})
    reproduce.main(arguments)
    assert seen == order


def test_a_damaged_cifar10_is_one_line_before_anything_starts(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(reproduce, "BUILD", tmp_path / "build")
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(tmp_path))
    (tmp_path / datasets.CIFAR10.base_folder).mkdir()
    assert reproduce.main(["--profile", "cifar"]) == 2
    captured = capsys.readouterr()
    assert "data_batch_1 is missing" in captured.err
    assert (captured.err.count("\n"), captured.out) == (1, "")
    assert not (tmp_path / "build").exists()


def test_the_summary_counts_a_moving_picture_and_says_why_a_notebook_is_missing(tmp_path):
    for name in ("08_states.png", "08_states.svg", "08_rounds.gif", "08_taste.png", "08_taste.gif"):
        (tmp_path / name).touch()
    done, failed, lost = (
        reproduce.Outcome(paths.NOTEBOOKS / f"{name}.ipynb", 1.0, error)
        for name, error in (("08_explorer", None), ("01_population", "no room"), ("03_two_moons", "not started"))
    )
    (tmp_path / "08_explorer_claims.csv").write_text("claim,paper,ours,measured\na,b,holds,c\n")
    _, row, *_, why, why_not = reproduce._summary([done, failed, lost], tmp_path, 0.0).splitlines()
    assert row.split() == ["08_explorer", "1", "3", "1", "0"]
    assert (why, why_not) == ("01_population: no room", "03_two_moons: not started")


def test_headless_runs_are_told_that_nobody_moves_a_slider():
    assert step.ENVIRONMENT[controls.HEADLESS] == "1"


FAKE = """#!/usr/bin/env bash
echo "${0##*/} $*" >>calls
echo "$MPLCONFIGDIR" >drawing
if [ "$*" = "-m venv --clear .venv" ]; then
  rm -rf .venv
  mkdir -p .venv/bin
  cp "$0" .venv/bin/python
  cp "$0" .venv/bin/uv
fi
if [ "$*" = "-m pip --version" ] && [ -e no-pip ]; then exit 1; fi
if [ "$*" = "-m ensurepip" ] && [ -e no-ensurepip ]; then exit 1; fi
"""


def set_up(home, *, command="setup"):
    """What run_all.sh calls in a folder where Python, pip and uv only say how they were called."""
    (home / "calls").unlink(missing_ok=True)
    (home / "bin").mkdir(exist_ok=True)
    (home / "bin" / "python3").write_text(FAKE)
    (home / "bin" / "python3").chmod(0o755)
    for name in ("pyproject.toml", "uv.lock"):
        (home / name).write_text("")
    (home / "run_all.sh").write_text((paths.PROJECT / "run_all.sh").read_text())
    environment = os.environ | {"PATH": f"{home / 'bin'}:{os.environ['PATH']}"}
    subprocess.run(["bash", str(home / "run_all.sh"), *command.split()], env=environment, check=True)
    calls = (home / "calls").read_text()
    return {"venv": "-m venv" in calls, "uv": "uv sync" in calls, "last": calls.splitlines()[-1]}


def test_the_environment_is_made_once_and_again_where_it_cannot_be_trusted(tmp_path):
    home = tmp_path / "here"
    home.mkdir()
    last = "python -m lib.reproduce setup"
    assert set_up(home) == {"venv": True, "uv": True, "last": last}
    assert set_up(home) == {"venv": False, "uv": False, "last": last}
    (home / ".venv" / ".curated-loops").unlink()
    (home / "no-pip").touch()  # uv makes environments without
    assert not set_up(home)["venv"]
    (home / ".venv" / ".curated-loops").unlink()
    (home / "no-ensurepip").touch()  # interrupted before anything was there
    assert set_up(home)["venv"]
    (home / "no-pip").unlink()
    (home / ".venv" / "bin" / "python").unlink()
    (home / ".venv" / "bin" / "python").symlink_to("/nowhere/python3")  # that Python was removed
    assert set_up(home)["venv"]
    moved = home.rename(tmp_path / "there")  # lib/ is imported from a path that is written down
    assert set_up(moved) == {"venv": False, "uv": True, "last": last}


def test_fonts_are_listed_in_the_environment_and_before_anything_is_drawn(tmp_path):
    last = set_up(tmp_path)["last"]
    assert (tmp_path / "drawing").read_text() == f"{tmp_path}/.venv/matplotlib\n"
    assert (tmp_path / "calls").read_text().splitlines()[-2:] == ["python -c import matplotlib.font_manager", last]


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        ({"python3": (3, 12), "python3.13": (3, 13)}, "python3"),  # the user's own, of an active environment say
        ({"python3": (3, 14), "python3.12": (3, 12), "python3.11": (3, 11)}, "python3.12"),
        ({"python3": (3, 9), "python3.11": (3, 11)}, "python3.11"),
        ({"python": (3, 13)}, "python"),
        ({"python3": (3, 14)}, "python3"),  # its wheels may be there by then
        ({"python3": (3, 10)}, None),
    ],
)
def test_a_python_is_taken_for_which_there_are_wheels(there, taken, tmp_path):
    for name, version in there.items():
        fake = tmp_path / name
        fake.write_text(f"#!{sys.executable}\nimport sys\nsys.version_info = {version}\nexec(sys.argv[2])\n")
        fake.chmod(0o755)
    found = re.search(
        r"^find_python\(\) {.*?^}", (paths.PROJECT / "run_all.sh").read_text(), re.MULTILINE | re.DOTALL
    )
    line = ["/bin/bash", "-c", f"{found[0]}\nfind_python"]
    done = subprocess.run(line, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.stdout.strip() == (str(tmp_path / taken) if taken else "")
    assert done.returncode == (0 if taken else 2)


def test_the_command_may_stand_behind_its_options(tmp_path):
    assert set_up(tmp_path, command="--only choice bench")["uv"]
    assert (tmp_path / ".venv" / ".curated-loops-bench").exists()
    assert reproduce.main(["setup", "--only", "01"]) == 2
    assert reproduce.main(["setup"]) == 0


def test_the_script_works_through_a_link(tmp_path):
    set_up(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "loops"
    link.symlink_to(tmp_path / "run_all.sh")
    subprocess.run(["bash", str(link), "setup"], cwd=tmp_path / "elsewhere", check=True)
    assert (tmp_path / "calls").read_text().endswith("-m lib.reproduce setup\n")


def test_a_kernel_imports_this_tree():
    assert step.environment()["PYTHONPATH"].split(os.pathsep)[0] == str(paths.PROJECT)


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
