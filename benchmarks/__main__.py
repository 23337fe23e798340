"""python -m benchmarks [--only NAME[,NAME...]] [--device cpu|cuda] [--folder FOLDER]"""

import argparse
import importlib
from pathlib import Path

import torch

from benchmarks import timing

SUITES = {  # name of the table -> module, function
    "pairing": ("pairing", "run"),
    "choice": ("choice", "run"),
    "dynamics": ("dynamics", "run"),
    "monte_carlo": ("dynamics", "monte_carlo"),
    "training": ("training", "run"),
    "losses": ("losses", "run"),
    "sampling": ("sampling", "run"),
    "solvers": ("sampling", "errors"),
    "growth": ("loops", "growth"),
    "quick": ("loops", "quick"),
    "memory": ("loops", "memory"),
}


def main() -> None:
    """The command line."""
    usage = "./run_all.sh bench [--only NAME[,NAME...]]"
    parser = argparse.ArgumentParser("run_all.sh bench", usage, "Print and keep tables of speed.")
    parser.add_argument("--only", default=",".join(SUITES), help=f"some of {', '.join(SUITES)}")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu"
    )
    parser.add_argument("--folder", type=Path, default=timing.RESULTS, help="where the machine's folder goes")
    asked = parser.parse_args()
    names = asked.only.split(",")
    for name in names:
        if name not in SUITES:
            parser.error(f"--only = {name!r}: must be one of {', '.join(SUITES)}")
    for name in names:
        module, function = SUITES[name]
        if asked.device == "cuda":
            torch.cuda.reset_peak_memory_stats()  # what is kept with a table is its own
        table = getattr(importlib.import_module(f"benchmarks.{module}"), function)(asked.device)
        timing.save(name, table, asked.folder, asked.device)


if __name__ == "__main__":
    main()
