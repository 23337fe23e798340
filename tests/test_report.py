"""The report opens without a network: formulas, pictures and styles are in its pages, and nothing is fetched."""

import re
import shutil
from html.parser import HTMLParser

import nbformat
import pytest

from lib import paths, report, reproduce
from lib.checks import BadInput

FIGURES = paths.PROJECT / "paper_figs" / "quick"


class Loads(HTMLParser):
    """Collects what a browser would fetch by itself, and what it would run."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag in ("script", "iframe", "object", "embed", "link"):
            self.found.append(tag)
        wanted = [values.get(name) or "" for name in ("src", "srcset", "poster", "data")]
        self.found += [value[:80] for value in wanted if value and not value.startswith("data:")]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "site"
    report.build(sorted(paths.NOTEBOOKS.glob("*.ipynb")), FIGURES, folder)
    return folder


def test_there_is_a_page_for_every_notebook(site):
    names = {path.stem for path in paths.NOTEBOOKS.glob("*.ipynb")}
    assert {path.stem for path in site.glob("*.html")} == names | {"index", "whole"}


def test_no_page_loads_anything(site):
    for page in site.glob("*.html"):
        text = page.read_text()
        loads = Loads()
        loads.feed(text)
        assert loads.found == [], page.name
        assert not re.search(r"url\(|@import", text), page.name


def test_formulas_are_drawn_and_none_is_left_as_source(site):
    text = (site / "01_population.html").read_text()
    assert text.count("<math") > 50
    prose = re.sub(r"<(pre|annotation)\b.*?</\1>", "", text, flags=re.DOTALL)
    assert "$$" not in prose
    assert r"\mathbb" not in prose


def test_every_picture_has_its_words(site):
    for page in site.glob("*.html"):
        assert "No description has been provided" not in page.read_text(), page.name


def test_the_front_page_has_every_claim_and_a_card_for_every_notebook(site):
    text = (site / "index.html").read_text()
    rows = sum(len(report._rows(table)) for table in FIGURES.glob("*_claims.csv"))
    assert rows > 20
    assert f"claims hold at {FIGURES.name}<" in text  # digits and CIFAR-10 have other verdicts
    assert len(re.findall(r'<td class="(?:holds|not|open)">', text)) == rows
    for page in site.glob("[0-9]*.html"):
        assert f'class="card" href="{page.name}"' in text


def test_claims_of_another_profile_than_the_pages_are_told_apart(site, tmp_path):
    assert "the page shows" not in (site / "index.html").read_text()
    notebooks = [paths.NOTEBOOKS / f"{name}.ipynb" for name in ("03_two_moons", "04_airplane_reward")]
    text = report.build(notebooks, FIGURES.parent / "cifar", tmp_path / "site").read_text()
    assert len(re.findall(r"claims hold at cifar; the page shows quick<", text)) == 1  # 03 has no claims there
    assert "The pages and pictures are of a run at “quick”." in text


def test_an_executed_notebook_tells_the_profile_that_papermill_put_in():
    cells = [
        nbformat.v4.new_code_cell(f'profile = "{name}"', metadata={"tags": [tag]})
        for name, tag in (("quick", "parameters"), ("cifar", "injected-parameters"), ("paper", "other"))
    ]
    assert report._ran_at(nbformat.v4.new_notebook(cells=cells)) == "cifar"


def test_a_profile_without_claims_is_refused_in_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "BUILD", tmp_path)
    monkeypatch.setenv("CURATED_LOOPS_FIGURES", str(FIGURES.parent))
    assert reproduce.main(["report", "--profile", "paper"]) == 2
    said = capsys.readouterr().err
    assert "--profile = 'paper': must be one with tables of claims in" in said
    assert said.endswith(": cifar, quick\n")
    assert list(tmp_path.iterdir()) == []


def test_links_lead_somewhere(site):
    for page in site.glob("*.html"):
        text = page.read_text()
        for target in re.findall(r'href="([^"#:]+\.html)', text):
            assert (site / target).exists(), (page.name, target)


def test_the_one_page_and_a_part_of_the_site_point_at_nothing_that_is_not_there(site, tmp_path):
    whole = (site / "whole.html").read_text()
    assert not re.search(r'href="\w+\.(html|ipynb)"', whole)
    assert set(re.findall(r'href="#(\w+)"', whole)) <= set(re.findall(r'id="(\w+)"', whole))
    report.build(
        [paths.NOTEBOOKS / f"{name}.ipynb" for name in ("00_start_here", "08_explorer")], FIGURES, tmp_path
    )
    there = {path.name for path in tmp_path.glob("*.html")}
    assert set(re.findall(r'href="(\w+\.html)"', (tmp_path / "00_start_here.html").read_text())) <= there
    assert "01_population" in (tmp_path / "00_start_here.html").read_text()


def test_a_moving_picture_is_kept(site):
    assert "data:image/gif;base64," in (site / "08_explorer.html").read_text()


def test_a_formula_that_cannot_be_drawn_is_an_error():
    assert "arg" in report.mathml(r"\arg\max_w f", "inline")
    with pytest.raises(BadInput, match="nosuchmacro"):
        report.mathml(r"\nosuchmacro x", "inline")


def test_a_notebook_without_figures_or_claims_is_still_a_page(tmp_path):
    notebook = tmp_path / "00_words.ipynb"
    cells = [nbformat.v4.new_markdown_cell("# Words & more\n\nSee [next](01_population.ipynb).")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), notebook)
    front = report.build([notebook], tmp_path, tmp_path / "site")
    assert "Words &amp; more" in front.read_text()
    assert "See next." in (tmp_path / "site" / "00_words.html").read_text()  # whose page is not here


def test_the_command_says_where_the_report_is_and_that_paper_needs_a_browser(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "BUILD", tmp_path)
    monkeypatch.setenv("CURATED_LOOPS_FIGURES", str(FIGURES.parent))
    monkeypatch.setattr(report.shutil, "which", lambda name: None)
    assert reproduce.main(["report", "--only", "03"]) == 0
    out = capsys.readouterr().out
    assert str(tmp_path / "report" / "index.html") in out
    assert "No PDF" in out


@pytest.mark.skipif(not any(map(shutil.which, report.BROWSERS)), reason=f"none of {report.BROWSERS} is installed")
def test_the_report_is_printed(site, tmp_path):
    assert report.print_pdf(site / "03_two_moons.html", tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
