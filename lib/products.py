"""What a notebook leaves behind: figures (PNG, SVG), the numbers behind them (CSV), provenance and claims."""

import json

import pandas as pd
from matplotlib.figure import Figure

from lib import paths, runs
from lib.claims import Claim, table
from lib.profiles import Profile


def figure(
    drawn: Figure,
    name: str,
    profile: Profile,
    *,
    seed: int,
    numbers: pd.DataFrame,
    alt: str,
    run: dict | None = None,
) -> Figure:
    """Save a figure with its numbers and provenance under `paths.figures(profile)`, and return it for display.

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
    for ending, options in (("png", {}), ("svg", {"metadata": {"Date": None}})):
        drawn.savefig(folder / f"{name}.{ending}", **options)
    numbers.to_csv(folder / f"{name}.csv", index=False, float_format="%.10g")
    about = {
        "alt": alt,
        "profile": profile.model_dump(),
        "seed": seed,
        "provenance": run or runs.provenance(),
    }
    runs.write_text(folder / f"{name}.json", json.dumps(about, indent=1) + "\n")
    return drawn


def verdicts(claims: list[Claim], notebook: str, profile: Profile) -> None:
    """Save a notebook's claims with their numbers and print the table of verdicts."""
    folder = paths.figures(profile.name)
    folder.mkdir(parents=True, exist_ok=True)
    table(claims, measured=True).to_csv(folder / f"{notebook}_claims.csv", index=False)
    print(table(claims).to_string(index=False, justify="left"))
