"""Results that were computed once, read back from the committed tables in paper_figs/: nothing is run again."""

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lib.checks import require
from lib.claims import Claim
from lib.products import RECORDED, seed_list

FOLDER = RECORDED / "cifar"  # what profile `cifar` left, for readers without its hours or its GPU
# Too close to call at `cifar`, with seed 0: the measured number, its line, and what would decide otherwise.
NEAR = (
    "[fitted] curated only: mean entropy within 0.05 of what perfect models do",  # 0.087; beside 06's sixty 0.045
    "with real data: precision ends above its start",  # by 0.008 in one run, of 1,000 images
    "mean confidence differs by at most 0.05 between runs in every round",  # 0.052, in one round
)


@dataclass(frozen=True)
class Record:
    """What `lib.experiments.Experiment` is to figures and claims, read from a table.

    Attributes:
        exact: for each arm, the exact dynamics, averaged over the seeds.
        finite: for each arm, the bounds of a perfect model on as many samples.
        floor: quality columns of real test images; {} where the table has none.
        others: the same of further sets of real images, by their names.
        about: the table's JSON: profile, seed, provenance.
    """

    exact: dict[str, pd.DataFrame]
    finite: dict[str, pd.DataFrame]
    floor: dict[str, float]
    others: dict[str, dict[str, float]]
    about: dict
    _measured: pd.DataFrame

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that were run."""
        return tuple(self._measured["arm"].unique())

    @property
    def seeds(self) -> list[int]:
        """The seeds of the runs."""
        return sorted(self._measured["seed"].unique().astype(int).tolist())

    def histories(self, arm: str) -> pd.DataFrame:
        """The histories of an arm's seeds in one table."""
        rows = _own_columns(self._measured[self._measured["arm"] == arm])
        return rows.astype({"round": int, "seed": int})

    @property
    def settings(self) -> dict:
        """The `images` section of the profile it was run at."""
        return self.about["profile"]["images"]

    @property
    def source(self) -> str:
        """For a caption: where these numbers come from."""
        made, s = self.about["provenance"], self.settings
        tree = "" if made["clean_tree"] else ", tree not clean"
        return (
            f"Recorded: profile `{self.about['profile']['name']}`, {len(self.exact[self.arms[0]]) - 1} rounds, "
            f"K = {s['k']}, {s['n_keep']:,} of {s['k'] * s['n_keep']:,} images kept and {s['round_steps']} steps "
            f"of {s['batch']} images a round; {seed_list(self.seeds)} on {made['processor']} "
            f"(device {made['device']}), {made['seconds'] / 60:.0f} minutes for {made['runs']} runs, added up, "
            f"commit `{made['commit'][:10]}`{tree}."
        )


def near(claims: list[Claim]) -> list[str]:
    """The statements of `claims` that the record leaves open."""
    return [claim.statement for claim in claims if claim.statement in NEAR]


def load(figure: str, folder: Path = FOLDER, **columns: str) -> Record:
    """The table behind a figure.

    Args:
        figure: its name without ending, e.g. "04_class_shares"; its table is one of `experiments.long_table`.
        folder: where it was recorded.
        columns: keep rows with these values alone, e.g. judge="fitted".

    Raises:
        BadInput: the folder does not hold the figure.
    """
    path = folder / f"{figure}.csv"
    require(path.exists(), "recorded figure", figure, f"a table in {folder}")
    table = pd.read_csv(path)
    for name, value in columns.items():
        table = table[table[name].astype(str) == value].drop(columns=name)
    parts = dict(list(table.groupby("kind")))
    exact = {
        str(arm): _own_columns(rows).astype({"round": int})
        for arm, rows in parts["exact"].groupby("arm", sort=False)
    }
    chance = table[table["kind"].str.startswith("finite")].groupby("arm", sort=False)
    finite = {str(arm): _own_columns(rows).astype({"round": int}) for arm, rows in chance}
    real = {
        str(kind): _own_columns(rows).iloc[0].to_dict() for kind, rows in parts.items() if kind.startswith("real")
    }
    floor, about = real.pop("real", {}), json.loads(path.with_suffix(".json").read_text())
    return Record(exact, finite, floor, real, about, parts["measured"])


def _own_columns(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.dropna(axis=1, how="all").drop(columns=["arm", "kind"]).reset_index(drop=True)
