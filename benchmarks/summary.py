"""The README's tables of speeds, made from the stored ones: `python -m benchmarks.summary` writes them."""

import json
import re
from pathlib import Path

import pandas as pd

from benchmarks.loops import BASE
from benchmarks.timing import BF16_UNITS, RESULTS
from lib import paths

README = paths.PROJECT / "README.md"
COMPILED = "ours, compiled"
SOLVERS = {"adams": "Adams", "midpoint": "midpoint", "heun": "Heun", "euler": "Euler"}  # oldest tables: no Adams
BLOCK = re.compile(r"(<!-- speed: made by benchmarks/summary.py -->\n).*?(<!-- /speed -->)", re.DOTALL)


def tables(results: Path = RESULTS) -> str:
    """Markdown: one table for each machine's folder in `results`, folded but for the first."""
    found = {folder: [name for name in ROWS if (folder / f"{name}.csv").exists()] for folder in results.iterdir()}
    ours = [_table(folder, found[folder]) for folder in sorted(found) if found[folder]]
    return "\n".join(f"<details{' open' * (not i)}>\n{table}\n</details>\n" for i, table in enumerate(ours))


def write() -> None:
    """Put the tables between their marks in the README."""
    README.write_text(BLOCK.sub(lambda found: found[1] + tables() + found[2], README.read_text()))


def _table(folder: Path, names: list[str]) -> str:
    """What the machine is, the rows of the stored tables named, and when each of them was measured."""
    rows, measured = [], {}
    for name in names:
        rows += ROWS[name](pd.read_csv(folder / f"{name}.csv"))
        about = json.loads((folder / f"{name}.json").read_text())
        tree = "" if about["clean_tree"] else ", tree not clean"
        measured.setdefault(f"on {about['date']} at commit `{about['commit'][:10]}`{tree}", []).append(name)
    cpu = about["cpu"]
    unit = next((unit for unit in BF16_UNITS if cpu.get(unit)), "none")
    gpu = "" if about["device"] == "cpu" else f"{about['device']}, beside "
    what = f"{gpu}{cpu['name']}, {cpu['cores']} cores, bf16 unit: {unit}"
    body = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    when = "; ".join(f"{', '.join(those)} {then}" for then, those in measured.items())
    head = f"<summary><b>{what}</b></summary>\n\n| what | ours | instead | ratio |\n|---|---|---|---|\n"
    return f"{head}{body}\nMeasured: {when}.\n"


def _training(table: pd.DataFrame) -> list[tuple[str, ...]]:
    rows = []
    for (size, batch), both in table.set_index("contender").groupby(["size", "batch"], sort=False):
        best, ours, theirs = both.loc[_best(both)], both.loc["ours"], both.loc["torchcfm"]
        precision, tops = best["precision_of_ours"], ["convolution"]
        tops += ["matmul"] if best["device"] == "cuda" else []
        shares = " and ".join(f"{best[f'of {precision} {top} ceiling']:.0%} of the {top}" for top in tops)
        eager = f"; not compiled {ours['seconds']:.3f} s" if COMPILED in both.index else ""
        rows.append(
            (
                f"OT-CFM training step, {size} size, batch {batch}",
                f"{_seconds(best)} ({best['GFLOP forward']:.1f} GFLOP forward; {best['GFLOP/s']:,.0f} GFLOP/s, "
                f"{shares} ceiling in {precision}{eager})",
                f"torchcfm: {_seconds(theirs)} ({theirs['GFLOP forward']:.1f} GFLOP forward; "
                f"{theirs['GFLOP/s']:,.0f} GFLOP/s)",
                _ratio(both),
            )
        )
    return rows


def _losses(table: pd.DataFrame) -> list[tuple[str, ...]]:
    rows, seeds = [], table["seed"].nunique()
    for column, what in (
        ("loss, quarter 4", "training loss, last quarter"),
        ("frechet_distance_pixels", "Fréchet distance of samples"),
    ):
        ends = table.groupby("way", sort=False)[column].agg(["min", "max"])
        ours, *others = [f"{way}: {low:.3f} to {high:.3f}" for way, low, high in ends.itertuples()]
        rows.append((f"{what}, small U-Net on digits, {seeds} seeds", ours, "; ".join(others), ""))
    return rows


def _sampling(table: pd.DataFrame) -> list[tuple[str, ...]]:
    rows = []
    for (size, nfe), both in table.set_index("contender").groupby(["size", "NFE"], sort=False):
        ours, theirs = both.loc[_best(both)], both.loc["torchcfm"]
        costs = [f" ({x['GFLOP forward']:.1f} GFLOP)" if "GFLOP forward" in both else "" for x in (ours, theirs)]
        speeds = [f"{x['images/s']:,.1f} images/s{cost}" for x, cost in zip((ours, theirs), costs, strict=True)]
        if COMPILED in both.index:
            speeds[0] += f"; not compiled {both.loc['ours', 'images/s']:,.1f}"
        speeds[1] = f"torchcfm's network: {speeds[1]}"
        rows.append((f"sampling, {size} size, NFE {nfe}", *speeds, _ratio(both)))
    return rows


def _solvers(table: pd.DataFrame) -> list[tuple[str, ...]]:
    models = dict(list(table.groupby("model"))) if "model" in table else {"cifar_p0": table}
    cifar = models["cifar_p0"]
    worst = cifar.query("NFE == 16").sort_values("rmse").groupby("method").last()
    used = [method for method in SOLVERS if method in worst.index]
    ours, *others = [f"{SOLVERS[method]}: {worst['rmse'][method]:.3f}" for method in used]
    if "adams" not in used:  # ours since
        ours, others = "Adams: not measured", [ours, *others]
    what = "RMS error a pixel (of -1 to 1) beside dopri5 on the same noise"
    rows = [(f"{what}, NFE 16, that commit's p_0", ours, "; ".join(others), "")]
    if "adams" in used:
        rows.append(("the same by NFE", _by_nfe(cifar, "adams"), _by_nfe(cifar, "midpoint"), ""))
    if "digits_p0" in models:
        digits = models["digits_p0"]
        rows.append(("the same, p_0 of the digits", _by_nfe(digits, "midpoint"), _by_nfe(digits, "adams"), ""))
    if "spread" in worst:
        ours, *others = [f"{SOLVERS[method]}: {worst['spread'][method]:.1%}" for method in used]
        rows.append(("contrast beside dopri5's, NFE 16, that commit's p_0", ours, "; ".join(others), ""))
    return rows


def _by_nfe(table: pd.DataFrame, method: str) -> str:
    """A solver's error at each number of evaluations, in the worse of the precisions."""
    found = table[table["method"] == method].groupby("NFE")["rmse"].max()
    return f"{SOLVERS[method]}: {', '.join(f'{error:.3f} ({nfe})' for nfe, error in found.items())}"


def _best(contenders: pd.DataFrame) -> str:
    """The row that stands for us: compiled, as at profile `paper`, where that was measured."""
    return COMPILED if COMPILED in contenders.index else "ours"


def _seconds(row: pd.Series) -> str:
    return f"{row['seconds']:.{2 if row['device'] == 'cpu' else 3}f} s"


def _ratio(contenders: pd.DataFrame) -> str:
    """How many times as fast as torchcfm we are, also in its float32 or not compiled where that was measured."""
    times = contenders["times torchcfm"]
    plain = f" ({times['ours, float32']:.1f} in float32)" if "ours, float32" in times else ""
    eager = f" ({times['ours']:.1f} not compiled)" if COMPILED in times else ""
    return f"{times[_best(contenders)]:.1f}{plain}{eager}"


def _pairing(table: pd.DataFrame) -> list[tuple[str, ...]]:
    seconds = table.query("n == 128").set_index("contender")["seconds"]
    ours, pot = seconds["ours"], seconds["POT"]
    return [("OT pairing of 128 images", f"{1e3 * ours:.2f} ms", f"POT: {1e3 * pot:.2f} ms", f"{pot / ours:.1f}")]


def _choice(table: pd.DataFrame) -> list[tuple[str, ...]]:
    both = table.query("n == 10_000_000").set_index("contender")
    ours, looped = both.loc["ours", "seconds"], both.loc["loop over menus"]
    times = f"{looped['times ours']:,.0f}"
    instead = f"loop over menus: {looped['seconds']:.0f} s{' (once)' if looped['repeats'] == 1 else ''}"
    share = f"{1e3 * ours:.0f} ms ({both.loc['ours', 'of copy bandwidth']:.0%} of a copy's bandwidth)"
    return [("K-choice among 10⁷ samples, K = 4", share, instead, times)]


def _dynamics(table: pd.DataFrame) -> list[tuple[str, ...]]:
    step = table.set_index("atoms").loc["grid 512x512"]
    return [("exact dynamics, one step on 512x512, one core", f"{1e3 * step['seconds']:.0f} ms", "", "")]


def _monte_carlo(table: pd.DataFrame) -> list[tuple[str, ...]]:
    exact, drawn = table.iloc[0], table.iloc[-1]
    ours = f"{1e3 * exact['seconds']:.2f} ms, error {exact['error']:.0e}"
    instead = f"Monte Carlo, {drawn['menus']:,} menus: {drawn['seconds']:.1f} s (once), error {drawn['error']:.0e}"
    ratio = f"{drawn['seconds'] / exact['seconds']:,.0f}, at {drawn['error'] / exact['error']:.0e} times the error"
    return [("exact dynamics, one step on three atoms", ours, instead, ratio)]


def _quick(table: pd.DataFrame) -> list[tuple[str, ...]]:
    table = table.set_index("notebook")
    each, whole = table.drop(index="all"), table.loc["all"]
    single = f"{each['seconds'].sum() / 60:.1f} minutes, at most {each['peak MiB'].max():,.0f} MiB each"
    both = f"{whole['seconds'] / 60:.1f} minutes, {whole['together MiB']:,.0f} MiB in all processes together"
    return [
        ("notebooks at `quick`, one by one, one core", single, "", ""),
        ("all of `quick` by `./run_all.sh`, set-up apart", both, "", ""),
    ]


def _memory(table: pd.DataFrame) -> list[tuple[str, ...]]:
    row = table.iloc[0]
    what = f"peak memory, rounds of {row['images a round']:,.0f} CIFAR-10 images"
    return [(what, f"{row['peak MiB']:,.0f} MiB", "", "")]


def _growth(table: pd.DataFrame) -> list[tuple[str, ...]]:
    base = table.loc[(table[list(BASE)] == pd.Series(BASE)).all(axis=1), "seconds in rounds"] / BASE["rounds"]
    what = f"2-D DDPM round, {BASE['n_keep']:,} kept of {BASE['n_keep'] * BASE['k']:,}, one core"
    rows = [(what, f"{base.min():.2f} to {base.max():.2f} s", "", "")]
    for name, some in table.groupby("grows", sort=False):
        sizes, seconds, memory = (some[c].iloc[[0, -1]] for c in (name, "seconds in rounds", "peak MiB"))
        times, slower = (both.iloc[1] / both.iloc[0] for both in (sizes, seconds))
        spans = [
            " to ".join(f"{value:,.{digits}f}" for value in both) for both, digits in ((seconds, 1), (memory, 0))
        ]
        what = f"2-D loop, {name} from {sizes.iloc[0]:,} to {sizes.iloc[1]:,} ({times:.0f} times)"
        rows.append((what, f"{spans[0]} s ({slower:.1f} times), {spans[1]} MiB", "", ""))
    return rows


ROWS = {
    "training": _training,
    "losses": _losses,
    "sampling": _sampling,
    "solvers": _solvers,
    "pairing": _pairing,
    "choice": _choice,
    "dynamics": _dynamics,
    "monte_carlo": _monte_carlo,
    "quick": _quick,
    "memory": _memory,
    "growth": _growth,
}

if __name__ == "__main__":
    write()
