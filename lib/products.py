"""What a notebook leaves behind: figures (PNG, SVG), the numbers behind them (CSV), provenance and claims."""

import io
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import PIL.Image
from IPython.display import Image, Markdown
from matplotlib.figure import Figure

from lib import paths, profiles, runs, sealed
from lib.checks import require
from lib.claims import Claim, table
from lib.figures import SAVE_DPI
from lib.profiles import Profile

BEGAN = time.perf_counter()  # a notebook imports this in its first cell
SCREEN_DPI = 100  # a figure is shown at this many pixels an inch
UNSETTLED = "too close to call"  # in the place of a verdict
RECORDED = paths.PROJECT / "paper_figs"  # what comes with the tree, whatever $CURATED_LOOPS_FIGURES says


def figure(
    drawn: Figure,
    name: str,
    profile: Profile,
    *,
    seed: int,
    numbers: pd.DataFrame,
    alt: str,
    run: dict | None = None,
) -> Image:
    """Save a figure with its numbers and provenance under `paths.figures(profile)`; return it for display.

    Args:
        drawn: the figure.
        name: file name without ending; starts with the notebook's number.
        profile: the resolved profile, saved beside the figure.
        seed: the notebook's first seed.
        numbers: what is drawn, one row a point.
        alt: what the picture shows, for those who cannot see it.
        run: provenance of the run behind it; None where everything was computed just now.
    """
    folder = paths.figures(profile.name)
    folder.mkdir(parents=True, exist_ok=True)
    drawn.savefig(folder / f"{name}.svg", metadata={"Date": None})
    drawn.set_layout_engine("none")  # it stays as laid out: finding it again takes as long as drawing
    shown = picture(drawn, alt)
    (folder / f"{name}.png").write_bytes(shown.data)
    _save_numbers(folder, name, ("png", "svg"), profile, seed, numbers, alt, run)
    return shown


def picture(drawn: Figure, alt: str) -> Image:
    """A figure for display alone; `alt` says what it shows."""
    whole, light = io.BytesIO(), io.BytesIO()
    drawn.savefig(whole, format="png")
    # 256 colours: a third of the bytes, and notebooks carry a copy of each; kmeans keeps those of small labels
    with PIL.Image.open(whole) as pixels:
        few = pixels.convert("RGB").quantize(256, kmeans=3, dither=PIL.Image.Dither.NONE)
    few.save(light, "png", optimize=True)
    return Image(data=light.getvalue(), format="png", width=round(drawn.get_figwidth() * SCREEN_DPI), alt=alt)


def animation(
    gif: bytes, name: str, profile: Profile, *, seed: int, numbers: pd.DataFrame, alt: str, run: dict | None = None
) -> Image:
    """Save a GIF with its numbers and provenance, as `figure` does; return it for display."""
    folder = paths.figures(profile.name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.gif").write_bytes(gif)
    _save_numbers(folder, name, ("gif",), profile, seed, numbers, alt, run)
    return Image(data=gif, format="gif", alt=alt)


def verdicts(
    claims: list[Claim],
    notebook: str,
    profile: Profile,
    *,
    seed: int,
    run: dict | None = None,
    unsettled: Sequence[str] = (),
) -> None:
    """Save a notebook's claims with their numbers and where they come from; print the table of verdicts.

    Args:
        claims: in the order of the table.
        notebook: its name without ending.
        profile: the resolved profile.
        seed: the notebook's first seed.
        run: as in `figure`.
        unsettled: statements so near their line that a repetition may decide otherwise (rounding differs between
            processors, and between two runs on one GPU): they get no verdict.
    """
    known = {claim.statement for claim in claims}
    require(known >= set(unsettled), "unsettled", list(unsettled), "statements of these claims")
    folder = paths.figures(profile.name)
    folder.mkdir(parents=True, exist_ok=True)
    _judged(claims, unsettled, measured=True).to_csv(folder / f"{notebook}_claims.csv", index=False)
    about = {"profile": profile.model_dump(mode="json"), "seed": seed}
    run = run and run | {"code_sha256": runs.spot_digest()}  # the code of the verdicts is part of it
    _describe(folder, f"{notebook}_claims", ("csv",), about, run)
    show_verdicts(claims, unsettled)


def as_stored(profile: Profile, seed: int, name: str) -> bool:
    """Whether a notebook runs with the settings and the seed of the stored figures of profile `name`."""
    return seed == 0 and profile == profiles.load(name)


def show_verdicts(claims: list[Claim], unsettled: Sequence[str] = ()) -> None:
    """Print the table of verdicts; `unsettled` as in `verdicts`."""
    print(_aligned(_judged(claims, unsettled)))


def _judged(claims: list[Claim], unsettled: Sequence[str], **columns: bool) -> pd.DataFrame:
    rows = table(claims, **columns)
    rows["ours"] = rows["ours"].mask(rows["claim"].isin(unsettled), UNSETTLED)
    return rows


def recorded(root: Path = RECORDED) -> pd.DataFrame:
    """Every claims table below `root`, laid out as <profile>/<notebook>_claims.csv.

    Returns:
        A row a claim: profile, notebook, claim, paper, ours, measured; by notebook, quick before other profiles.
    """
    columns = ["profile", "notebook", "claim", "paper", "ours", "measured"]
    found = sorted(root.glob("*/*_claims.csv"), key=lambda path: (path.name, path.parent.name != "quick", path))
    tables = [
        pd.read_csv(path).assign(profile=path.parent.name, notebook=path.stem.removesuffix("_claims"))
        for path in found
    ]
    return pd.concat([pd.DataFrame(columns=columns), *tables], ignore_index=True)[columns]


def tally(claims: pd.DataFrame, by: str) -> pd.DataFrame:
    """How many claims held: a row for each value of a column of `recorded`, a column for each profile.

    Args:
        claims: of `recorded`.
        by: "notebook", or "paper": a claim about two statements then counts for both.

    Returns:
        "held of checked", and how many are open for want of a verdict, or "-" where a profile has no such claim;
        in order of appearance.
    """
    if by == "paper":
        claims = claims.assign(paper=claims["paper"].map(_statements)).explode("paper", ignore_index=True)
    held, opened = (
        claims["ours"].eq(word).groupby([claims[by], claims["profile"]], sort=False)
        for word in ("holds", UNSETTLED)
    )
    words = held.sum().astype(str) + " of " + (held.count() - opened.sum()).astype(str)
    words += opened.sum().map(lambda n: f", {n} open" if n else "")
    table = words.unstack("profile", fill_value="-")
    return table.loc[claims[by].unique(), claims["profile"].unique()].rename_axis(columns=None)


def listing(table: pd.DataFrame) -> Markdown:
    """A table of words, for display: unlike pandas' own it is left-aligned and wraps long cells."""
    lines = [list(table.columns), ["---"] * len(table.columns), *table.values.tolist()]
    cells = [[str(x).replace("|", r"\|") for x in line] for line in lines]
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in cells))


def seed_list(seeds: list[int]) -> str:
    """For a caption: "seed 0", "seeds 0, 1"."""
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def stored(name: str, profile: str, root: Path = RECORDED) -> Image:
    """A recorded figure, for display; `root` as for `recorded`."""
    png = root / profile / f"{name}.png"
    require(png.exists(), "figure", f"{profile}/{name}", f"one of those in {root}")
    with PIL.Image.open(png) as picture:
        width = round(picture.width * SCREEN_DPI / SAVE_DPI)
    return Image(filename=png, width=width, alt=json.loads(png.with_suffix(".json").read_text())["alt"])


def _save_numbers(
    folder: Path,
    name: str,
    drawn: tuple[str, ...],
    profile: Profile,
    seed: int,
    numbers: pd.DataFrame,
    alt: str,
    run: dict | None,
) -> None:
    """Save the numbers behind a picture, and where both come from."""
    numbers.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    about = {"alt": alt, "profile": profile.model_dump(mode="json"), "seed": seed}
    _describe(folder, name, (*drawn, "csv"), about, run)


def _describe(folder: Path, name: str, endings: tuple[str, ...], about: dict, run: dict | None) -> None:
    """Save where files of one name come from, with a digest of each."""
    now = {"code_sha256": runs.spot_digest(), "seeds": [about["seed"]], "inputs": {}}
    origin = run or runs.provenance(seconds=time.perf_counter() - BEGAN) | now
    about["provenance"] = origin | {"stale": sorted({*origin.get("stale", []), *runs.stale()})}
    names = [f"{name}.{ending}" for ending in endings]
    about["files"] = {file: sealed.file_sha256(folder / file) for file in names}
    sealed.write_text(folder / f"{name}.json", json.dumps(about, indent=1) + "\n")


def _statements(source: str) -> list[str]:
    """What "Thm 2.2, 2.4" names: ["Thm 2.2", "Thm 2.4"]; a source without numbers of this kind stays whole."""
    found = re.findall(r"(Lemma|Thm)|(\d+\.\d+)", source)
    kinds, names = "", []
    for kind, number in found:
        kinds = kind or kinds
        names += [f"{kinds} {number}"] if number and kinds else []
    return names or [source]


def _aligned(table: pd.DataFrame) -> str:
    """Plain text with left-aligned columns."""
    lines = [list(table.columns), *table.values.tolist()]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
