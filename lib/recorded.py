"""Results that were computed once, read back from the committed tables in paper_figs/: nothing is run again."""

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lib.checks import require
from lib.products import RECORDED

PROFILE = "cifar"  # what is recorded for readers who cannot spend its hours


@dataclass(frozen=True)
class Record:
    """What `lib.experiments.Experiment` is to figures and claims, read from a table.

    Attributes:
        exact: for each arm, the exact dynamics.
        floor: quality columns of real test images; {} where the table has none.
        about: the figure's JSON: profile, seed, provenance.
    """

    exact: dict[str, pd.DataFrame]
    floor: dict[str, float]
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
        """One line for a caption: where these numbers come from."""
        made = self.about["provenance"]
        hours = made["seconds_of_all_runs"] / 3600
        tree = "" if made["clean_tree"] else ", tree not clean"
        return (
            f"Recorded: profile `{self.about['profile']['name']}`, seed(s) {', '.join(map(str, self.seeds))}, "
            f"{len(self.exact[self.arms[0]]) - 1} rounds, {self.settings['n_keep']:,} images kept a round, device "
            f"{made['device']} ({made['threads']} threads), {hours:.1f} h for {made['runs']} runs, commit "
            f"`{made['commit'][:10]}`{tree}."
        )


def load(figure: str, profile: str = PROFILE, root: Path = RECORDED, **columns: str) -> Record:
    """The table behind a figure.

    Args:
        figure: its name without ending, e.g. "04_class_shares"; its table is one of `experiments.long_table`.
        profile: at which it was computed.
        root: where profiles' figures lie.
        columns: keep rows with these values alone, e.g. judge="fitted".
    """
    path = root / profile / f"{figure}.csv"
    require(path.exists(), "recorded figure", f"{profile}/{figure}", f"a table in {path.parent}")
    table = pd.read_csv(path)
    for name, value in columns.items():
        table = table[table[name].astype(str) == value].drop(columns=name)
    about = json.loads(path.with_suffix(".json").read_text())
    parts = {kind: rows for kind, rows in table.groupby("kind")}
    exact = {
        str(arm): _own_columns(rows).astype({"round": int})
        for arm, rows in parts["exact"].groupby("arm", sort=False)
    }
    real = _own_columns(parts["real"]).iloc[0].to_dict() if "real" in parts else {}
    return Record(exact, real, about, parts["measured"])


def _own_columns(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.dropna(axis=1, how="all").drop(columns=["arm", "kind"]).reset_index(drop=True)
