"""Results that were computed once, read back from the committed tables in paper_figs/: nothing is run again."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lib.checks import require
from lib.products import RECORDED, seed_list

# What is recorded of profile `cifar` for readers who cannot spend its hours, in the order in which it was: each
# folder is what the notebooks left at one commit on one machine.
FOLDERS = ("cifar", "cifar-seed-1", "cifar-seed-2")
LONGER = "cifar-20-rounds"  # cifar-seed-2's confidence loop, gone on with; the tables of notebook 06
COUNTS = ("seeds", "confidence_seeds", "repeats")  # settings in which records of one experiment may differ


@dataclass(frozen=True)
class Record:
    """What `lib.experiments.Experiment` is to figures and claims, read from tables.

    Attributes:
        exact: for each arm, the exact dynamics, averaged over the runs.
        finite: for each arm, the bounds of a perfect model on as many samples; {} in older tables.
        floor: quality columns of real test images; {} where the tables have none.
        about: the JSON of each table: profile, seed, provenance.
        apart: folders that hold the figure at other settings than the first, and so are not part of it.
    """

    exact: dict[str, pd.DataFrame]
    finite: dict[str, pd.DataFrame]
    floor: dict[str, float]
    about: list[dict]
    apart: list[str]
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
        return self.about[0]["profile"]["images"]

    @property
    def source(self) -> str:
        """For a caption: where these numbers come from."""
        size = (
            f"profile `{self.about[0]['profile']['name']}`, {len(self.exact[self.arms[0]]) - 1} rounds, "
            f"{self.settings['n_keep']:,} images kept a round"
        )
        others = f" Not shown, since run at other settings: {', '.join(self.apart)}." if self.apart else ""
        return f"Recorded: {size}; {'; '.join(_origin(about['provenance']) for about in self.about)}.{others}"


def load(figure: str, folders: Sequence[str] = FOLDERS, root: Path = RECORDED, **columns: str) -> Record:
    """The tables behind a figure, as one: a run that stands in two of them is taken from the first.

    Those at other settings than the first stay out of it: who runs profile `cifar` again writes the first anew.

    Args:
        figure: its name without ending, e.g. "04_class_shares"; its table is one of `experiments.long_table`.
        folders: where it was recorded; those without it are passed over.
        root: where these folders lie.
        columns: keep rows with these values alone, e.g. judge="fitted".

    Raises:
        BadInput: no folder holds the figure.
    """
    there = [root / folder / f"{figure}.csv" for folder in folders]
    there = [path for path in there if path.exists()]
    require(bool(there), "recorded figure", figure, f"a table in one of {', '.join(folders)} in {root}")
    told = {path: json.loads(path.with_suffix(".json").read_text()) for path in there}
    apart = [path for path in there if _images(told[path]) != _images(told[there[0]])]
    there = [path for path in there if path not in apart]
    tables = pd.concat([_chosen(path, columns).assign(record=i) for i, path in enumerate(there)])
    parts = dict(list(tables.groupby("kind")))
    measured = parts["measured"].sort_values("record", kind="stable").drop_duplicates(["arm", "seed", "round"])
    runs = parts["measured"].groupby(["arm", "record"])["seed"].nunique()
    exact = {str(arm): _mean(rows, runs[arm]) for arm, rows in parts["exact"].groupby("arm", sort=False)}
    chance = tables[tables["kind"].str.startswith("finite")].groupby("arm", sort=False)
    finite = {str(arm): _own_columns(rows).drop(columns="record").astype({"round": int}) for arm, rows in chance}
    floor = _own_columns(parts["real"]).drop(columns="record").iloc[0].to_dict() if "real" in parts else {}
    about, others = [told[path] for path in there], [path.parent.name for path in apart]
    return Record(exact, finite, floor, about, others, measured.drop(columns="record"))


def _chosen(path: Path, columns: dict[str, str]) -> pd.DataFrame:
    table = pd.read_csv(path)
    for name, value in columns.items():
        table = table[table[name].astype(str) == value].drop(columns=name)
    return table


def _mean(exact: pd.DataFrame, runs: pd.Series) -> pd.DataFrame:
    """The exact dynamics of one arm, a row a round; a record's own is a mean over its `runs[record]` runs."""
    rows = _own_columns(exact)
    weight = rows.pop("record").map(runs)
    total = rows.mul(weight, axis=0).assign(round=rows["round"], weight=weight).groupby("round").sum()
    return total.div(total.pop("weight"), axis=0).reset_index().astype({"round": int})


def _images(about: dict) -> dict:
    return {key: value for key, value in about["profile"]["images"].items() if key not in COUNTS}


def _origin(made: dict) -> str:
    """In words: seeds, time, device and code of one record."""
    tree = "" if made["clean_tree"] else ", tree not clean"
    return (
        f"{seed_list(made['seeds'])} on device {made['device']} (threads: {made['threads']}), "
        f"{made['seconds'] / 3600:.1f} h for {made['runs']} runs, commit `{made['commit'][:10]}`{tree}"
    )


def _own_columns(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.dropna(axis=1, how="all").drop(columns=["arm", "kind"]).reset_index(drop=True)
