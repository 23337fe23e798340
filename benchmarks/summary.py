"""The README's table of speeds, made from the stored tables: `python -m benchmarks.summary` writes it."""

import json
import re
from pathlib import Path

import pandas as pd

from benchmarks.timing import RESULTS
from lib import paths

README = paths.PROJECT / "README.md"
BLOCK = re.compile(r"(<!-- speed: made by benchmarks/summary.py -->\n).*?(<!-- /speed -->)", re.DOTALL)


def table(folder: Path = RESULTS) -> str:
    """Markdown, from the CSV files in `folder`."""
    about = json.loads((folder / "training.json").read_text())
    rows = [*_training(folder), *_sampling(folder), *_parts(folder)]
    head = "| what | ours | instead | ratio |\n|---|---|---|---|\n"
    body = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    where = f"{about['cpu']['name']}, {about['cpu']['cores']} cores, bf16 units: {about['cpu']['amx_bf16']}"
    return f"{head}{body}\nMeasured on {about['date']} on {where}, commit `{about['commit'][:10]}`; medians.\n"


def write() -> None:
    """Put the table between its marks in the README."""
    README.write_text(BLOCK.sub(lambda found: found[1] + table() + found[2], README.read_text()))


def _training(folder: Path) -> list[tuple[str, ...]]:
    rows = []
    for (size, batch), both in _read(folder, "training").groupby(["size", "batch"], sort=False):
        ours, theirs = both.loc["ours"], both.loc["torchcfm"]
        share = ours["of bf16 convolution ceiling"]
        rows.append(
            (
                f"OT-CFM training step, {size} size, batch {batch}",
                f"{ours['seconds']:.2f} s ({ours['GFLOP forward']:.1f} GFLOP forward; "
                f"{ours['GFLOP/s']:.0f} GFLOP/s, {share:.0%} of the bf16 convolution ceiling)",
                f"torchcfm: {theirs['seconds']:.2f} s ({theirs['GFLOP forward']:.1f} GFLOP forward; "
                f"{theirs['GFLOP/s']:.0f} GFLOP/s)",
                f"{ours['times torchcfm']:.1f}",
            )
        )
    return rows


def _sampling(folder: Path) -> list[tuple[str, ...]]:
    rows = []
    for (size, nfe), both in _read(folder, "sampling").groupby(["size", "NFE"], sort=False):
        ours, theirs = both.loc["ours"], both.loc["torchcfm"]
        speeds = f"{ours['images/s']:.1f} images/s", f"torchcfm's network: {theirs['images/s']:.1f} images/s"
        rows.append((f"sampling, {size} size, NFE {nfe}", *speeds, f"{ours['times torchcfm']:.1f}"))
    return rows


def _parts(folder: Path) -> list[tuple[str, ...]]:
    pairing = _read(folder, "pairing").query("n == 128")["seconds"]
    choice = _read(folder, "choice").query("n == 10_000_000")
    step = _read(folder, "dynamics", "atoms").loc["grid 512x512"]
    looped = choice.loc["loop over menus"]
    return [
        (
            "OT pairing of 128 images",
            f"{1e3 * pairing['ours']:.2f} ms",
            f"POT: {1e3 * pairing['POT']:.2f} ms",
            f"{pairing['POT'] / pairing['ours']:.1f}",
        ),
        (
            "K-choice among 10⁷ samples, K = 4",
            f"{choice.loc['ours', 'seconds']:.3f} s",
            f"loop over menus: {looped['seconds']:.0f} s",
            f"{looped['times ours']:.0f}",
        ),
        ("exact dynamics, one step on 512x512, one core", f"{1e3 * step['seconds']:.0f} ms", "", ""),
    ]


def _read(folder: Path, name: str, index: str = "contender") -> pd.DataFrame:
    return pd.read_csv(folder / f"{name}.csv").set_index(index)


if __name__ == "__main__":
    write()
