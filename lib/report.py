"""The notebooks as they are stored, as a web site without a server: nothing on its pages is loaded from anywhere.

Formulas become MathML, which browsers draw themselves; styles and pictures are part of each page; there are no
scripts. So a single page can be sent by mail.
"""

import csv
import html
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nbformat
from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter

from lib.checks import require

TITLE = "curated-loops"
PAPER = "https://arxiv.org/abs/2407.09499"
LEAD = (
    "A notebook-first, reproducible companion to <em>Self-Consuming Generative Models with Curated Data Provably "
    f'Optimize Human Preferences</em> (<a href="{PAPER}">arXiv:2407.09499</a>, NeurIPS 2024). When generative '
    "models are retrained on the outputs that people liked best, they learn what people like, and forget the "
    "rest, unless real data stays in the mix."
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 180  # seconds for the browser to print


@dataclass(frozen=True)
class Page:
    """One notebook, rendered.

    Attributes:
        name: of the notebook, without ending.
        title: its first heading.
        body: HTML; links to other notebooks end in .ipynb.
        picture: its first picture as a data URI; None if it has none.
        ran: profile at which it was run, to which body and picture belong; None where it does not say.
        profile: of the claims.
        claims: rows of its claims table at that profile: claim, paper, ours, measured.
    """

    name: str
    title: str
    body: str
    picture: str | None
    ran: str | None
    profile: str
    claims: list[dict[str, str]]


def build(notebooks: Iterable[Path], figures: Path, folder: Path) -> Path:
    """Write index.html, a page for each notebook and whole.html (all in one) to a fresh folder.

    Args:
        notebooks: stored notebooks, with their outputs.
        figures: where their claims tables lie, in a folder named for a profile.
        folder: replaced.

    Returns:
        The front page.
    """
    pages = [render(notebook, figures) for notebook in notebooks]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    names = [page.name for page in pages]
    links = "".join(f'<a href="{name}.html">{name}</a>' for name in names)
    for page in pages:
        nav = f'<nav><a href="index.html">{TITLE}</a>{links}</nav>'
        body = _linked(page.body, names, "{}.html")
        (folder / f"{page.name}.html").write_text(_document(page.title, nav + body))
    (folder / "index.html").write_text(_document(TITLE, _front(pages, "{}.html")))
    articles = [f'<article id="{page.name}">{_linked(page.body, names, "#{}")}</article>' for page in pages]
    (folder / "whole.html").write_text(_document(TITLE, _front(pages, "#{}") + "".join(articles)))
    return folder / "index.html"


def _linked(body: str, names: list[str], link: str) -> str:
    """Links between notebooks, as `link` of a name; of one that is not among `names` the words are left."""

    def one(found: re.Match) -> str:
        name, words = found.groups()
        return f'<a href="{link.format(name)}">{words}</a>' if name in names else words

    return re.sub(r'<a href="(\w+)\.ipynb">(.*?)</a>', one, body, flags=re.DOTALL)


def print_pdf(page: Path, target: Path) -> bool:
    """Print a page through the system's Chromium; False where there is none."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return False
    options = ["--headless", "--disable-gpu", "--no-pdf-header-footer", f"--print-to-pdf={target}"]
    if os.geteuid() == 0:
        options.append("--no-sandbox")  # Chromium's sandbox refuses to start for root
    subprocess.run([browser, *options, page.as_uri()], check=True, capture_output=True, timeout=PATIENCE)
    return True


def render(notebook: Path, figures: Path) -> Page:
    """One stored notebook; its claims table is read from `figures`."""
    content = nbformat.read(notebook, as_version=4)
    _gifs_to_html(content)
    exporter = _Exporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    body, _ = exporter.from_notebook_node(content)
    heading = re.search(r"^# (.+)$", content.cells[0].source, re.MULTILINE)
    picture = re.search(r'src="(data:image/[^"]+)"', body)
    table = figures / f"{notebook.stem}_claims.csv"
    return Page(
        notebook.stem,
        heading[1] if heading else notebook.stem,
        body,
        picture[1] if picture else None,
        _ran_at(content),
        figures.name,
        _rows(table) if table.exists() else [],
    )


def mathml(formula: str, display: str) -> str:
    """LaTeX -> MathML; `display` is "block" or "inline"."""
    # latex2mathml has no \arg.
    drawn = convert(re.sub(r"\\arg(?![a-zA-Z])", r"\\operatorname{arg}", formula), display=display)
    left = re.findall(r"\\[a-zA-Z]+", drawn)
    require(not left, "formula", formula, f"free of {', '.join(left)}, which latex2mathml does not know")
    return drawn


class _Renderer(IPythonRenderer):
    def block_math(self, body: str) -> str:
        return mathml(body, "block")

    def inline_math(self, body: str) -> str:
        return mathml(body, "inline")


class _Exporter(HTMLExporter):
    @pass_context
    def markdown2html(self, context, source):
        renderer = _Renderer(escape=False, exclude_anchor_links=True)
        return MarkdownWithMath(renderer=renderer).render(source)


def _ran_at(content: nbformat.NotebookNode) -> str | None:
    """The profile among a notebook's parameters; those that papermill put in come behind its own."""
    tags = {"parameters", "injected-parameters"}
    cells = [cell.source for cell in content.cells if tags & set(cell.metadata.get("tags", []))]
    found = re.findall(r'^profile = "([\w-]+)"', "\n".join(cells), re.MULTILINE)
    return found[-1] if found else None


def _gifs_to_html(content: nbformat.NotebookNode) -> None:
    """nbconvert knows no GIF: put it into an <img>."""
    for cell in content.cells:
        for output in cell.get("outputs", []):
            gif = output.get("data", {}).pop("image/gif", None)
            if gif:
                alt = html.escape(output.metadata.get("image/gif", {}).get("alt", ""))
                output.data["text/html"] = f'<img src="data:image/gif;base64,{gif.strip()}" alt="{alt}">'


def _rows(table: Path) -> list[dict[str, str]]:
    with open(table, newline="") as file:
        return list(csv.DictReader(file))


def _front(pages: list[Page], link: str) -> str:
    cards = "".join(_card(page, link.format(page.name)) for page in pages)
    tables = "".join(_claims(page, link.format(page.name)) for page in pages if page.claims)
    shown = sorted({page.ran for page in pages if page.ran})
    apart = f" The pages and pictures are of a run at “{', '.join(shown)}”." if _apart(pages) else ""
    legend = (
        f"Verdicts at profile “{pages[0].profile}”; what is recorded at others stands in the notebooks.{apart} "
        "“paper” names the statement of the paper behind a claim; “ours” marks expectations of this project."
    )
    return (
        f'<h1>{TITLE}</h1><p>{LEAD}</p><div class="cards">{cards}</div>'
        f'<h2>What is claimed, and what held here</h2><p class="fine">{legend}</p>{tables}'
    )


def _apart(pages: list[Page]) -> bool:
    """Whether claims are of another profile than what the pages show."""
    return any(page.claims and page.ran not in (None, page.profile) for page in pages)


def _card(page: Page, link: str) -> str:
    held, missed = (sum(row["ours"] == word for row in page.claims) for word in ("holds", "does not hold"))
    says = f"{held} of {held + missed} claims hold at {page.profile}" if page.claims else page.name
    says += f"; the page shows {page.ran}" if _apart([page]) else ""
    picture = f'<img src="{page.picture}" alt="">' if page.picture else ""
    return (
        f'<a class="card" href="{link}">{picture}<strong>{html.escape(page.title)}</strong><span>{says}</span></a>'
    )


def _claims(page: Page, link: str) -> str:
    lines = []
    for row in page.claims:
        kind = {"holds": "holds", "does not hold": "not"}.get(row["ours"], "open")
        claim, paper, ours, measured = (html.escape(row[key]) for key in ("claim", "paper", "ours", "measured"))
        lines.append(f'<tr><td>{claim}<td>{paper}<td class="{kind}">{ours}<td>{measured}')
    head = "<tr><th>claim<th>paper<th>here<th>measured"
    table = f'<table class="claims">{head}{"".join(lines)}</table>'
    return f'<h3><a href="{link}">{html.escape(page.title)}</a></h3>{table}'


def _document(title: str, body: str) -> str:
    style = (Path(__file__).parent / "report.css").read_text() + HtmlFormatter(style="default").get_style_defs()
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{style}</style></head>\n<body>{body}</body></html>\n"
    )


def main() -> None:
    """`python -m lib.report FOLDER FIGURES`: a report of the executed notebooks in a folder, to FOLDER/report."""
    folder, figures = map(Path, sys.argv[1:])
    print(build(sorted(folder.glob("[0-9]*.ipynb")), figures, folder / "report"))


if __name__ == "__main__":
    main()
