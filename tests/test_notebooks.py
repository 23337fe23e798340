"""What nbval does not check: pairs agree, notebooks were run in order, checked cells have stored outputs."""

import json
import re

import papermill
import pytest
from jupytext.cli import jupytext

from lib import paths

SCRIPTS = sorted(paths.NOTEBOOKS.glob("*.py"))
NAMES = [path.stem for path in SCRIPTS]
CHECKED = "nbval-check-output"


def code_cells(name: str) -> list[dict]:
    cells = json.loads((paths.NOTEBOOKS / f"{name}.ipynb").read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def tagged(name: str, tag: str) -> list[dict]:
    return [cell for cell in code_cells(name) if tag in cell["metadata"].get("tags", [])]


def test_every_notebook_has_its_pair():
    assert sorted(path.stem for path in paths.NOTEBOOKS.glob("*.ipynb")) == NAMES
    assert NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_pair_agrees(name, monkeypatch, capsysbinary):
    monkeypatch.chdir(paths.NOTEBOOKS)
    jupytext(["--to", "py:percent", "-o", "-", f"{name}.ipynb"])
    assert capsysbinary.readouterr().out.decode() == (paths.NOTEBOOKS / f"{name}.py").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_it_was_executed_top_to_bottom(name):
    counts = [cell["execution_count"] for cell in code_cells(name)]
    assert counts == list(range(1, len(counts) + 1))


@pytest.mark.parametrize("name", NAMES)
def test_claims_are_checked_and_have_a_stored_output(name):
    cells = tagged(name, CHECKED)
    assert cells, "no cell is checked"
    for cell in cells:
        assert [output["output_type"] for output in cell["outputs"]] == ["stream"]
        assert cell["outputs"][0]["name"] == "stdout"
        verdicts = "".join(cell["outputs"][0]["text"])
        assert re.search(r"\bholds\b|\bdoes not hold\b", verdicts)


@pytest.mark.parametrize("name", NAMES)
def test_no_verdict_wraps_on_a_screen_of_1400_pixels(name):
    text = "".join("".join(output["text"]) for cell in tagged(name, CHECKED) for output in cell["outputs"])
    assert max(map(len, text.splitlines())) <= 120


def test_the_tour_leads_to_every_other_notebook():
    text = (paths.NOTEBOOKS / "00_start_here.py").read_text()
    links = set(re.findall(r"\]\((\w+)\.ipynb\)", text))
    assert links == set(NAMES) - {"00_start_here"}


@pytest.mark.parametrize("name", NAMES)
def test_no_stored_output_is_noise(name):
    for cell in code_cells(name):
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr", "".join(output["text"])
            assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {})


@pytest.mark.parametrize("name", NAMES)
def test_no_widget_state_is_stored(name):
    assert "widgets" not in json.loads((paths.NOTEBOOKS / f"{name}.ipynb").read_text())["metadata"]


@pytest.mark.parametrize("name", NAMES)
def test_cells_stay_small_and_files_light(name):
    assert max(len("".join(cell["source"]).splitlines()) for cell in code_cells(name)) <= 25
    assert (paths.NOTEBOOKS / f"{name}.ipynb").stat().st_size < 1_500_000


@pytest.mark.parametrize("name", NAMES)
def test_it_takes_the_parameters_that_run_all_gives(name):
    declared = papermill.inspect_notebook(str(paths.NOTEBOOKS / f"{name}.ipynb"))
    assert set(declared) == {"profile", "seed", "overrides"}


@pytest.mark.parametrize("path", sorted(paths.NOTEBOOKS.glob("*.py")), ids=lambda path: path.stem)
def test_a_notebook_loads_the_profile_it_is_given(path):
    assert re.findall(r"profiles\.load\((.*)\)", path.read_text()) == ["profile, overrides"]
