"""Whole loops: how a toy loop grows with its sizes, and what the notebooks of `quick` cost."""

import sys
import tempfile
from pathlib import Path

import pandas as pd

from benchmarks.timing import process
from lib import paths

BASE = {"n_keep": 4096, "rounds": 4, "k": 4, "arms": 1}
GROWTH = {"n_keep": (1024, 4096, 16384, 65536), "rounds": (2, 4, 8, 16), "k": (2, 4, 8, 16), "arms": (1, 2, 3)}
LOOP = """
import sys
from lib import experiments, profiles
from lib.loop import retrain
n_keep, rounds, k, arms = map(int, sys.argv[1:])
changes = {"toy.n_keep": n_keep, "toy.rounds": rounds, "toy.k": k, "toy.seeds": 1, "toy.first_steps": 200}
experiment = experiments.toy_experiment("gaussians", profiles.load("quick", changes), 0, experiments.ARMS[:arms])
seconds = [run.history["seconds"][1:].sum() for runs in experiment.runs.values() for run in runs]
print(sum(seconds))
"""
# One Euler step and few training steps: memory, not time, is what this round is about.
ROUND = """
from lib import image_experiments, profiles
from lib.loop import retrain
sizes = {"images.n_keep": 12500, "images.n_quality": 10000}
settings = profiles.load("cifar", sizes | {"images.method": "euler", "images.ode_steps": 1}).images
task = image_experiments.image_task(image_experiments.studio(settings), "confidence")
run = retrain(image_experiments.image_config(task, settings, "mixed", 0, 1))
print(run.history["n_pool"].iloc[-1])
"""


def memory(_device: str) -> pd.DataFrame:
    """Peak memory of rounds of 50,000 CIFAR-10 images: drawn, rewarded, chosen from, trained on, measured."""
    with tempfile.TemporaryDirectory() as folder:
        found = process([sys.executable, "-c", ROUND], Path(folder))
        images = int((Path(folder) / "log").read_text().split()[-1])
    return pd.DataFrame([{"images a round": images, **found}])


def growth(_device: str) -> pd.DataFrame:
    """Seconds in the rounds of a 2-D DDPM loop, and peak memory, as one size grows; one core."""
    rows = []
    for name, values in GROWTH.items():
        for value in values:
            sizes = BASE | {name: value}
            with tempfile.TemporaryDirectory() as folder:
                line = [sys.executable, "-c", LOOP, *map(str, sizes.values())]
                found = process(line, Path(folder))
                rounds = float((Path(folder) / "log").read_text().split()[-1])
            rows.append({"grows": name, **sizes, "seconds in rounds": rounds, "peak MiB": found["peak MiB"]})
    return pd.DataFrame(rows)


def quick(_device: str) -> pd.DataFrame:
    """Seconds and peak memory of the notebooks of `quick`, one by one and by one command; nothing is reused."""
    rows = []
    for notebook in sorted(paths.NOTEBOOKS.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            line = [sys.executable, "-m", "papermill", str(notebook), f"{folder}/out.ipynb", "--no-progress-bar"]
            found = process([*line, "--cwd", str(paths.NOTEBOOKS)], Path(folder))
        rows.append({"notebook": notebook.stem, **found})
    with tempfile.TemporaryDirectory() as folder:
        rows.append({"notebook": "all", **process([sys.executable, "-m", "lib.reproduce"], Path(folder))})
    return pd.DataFrame(rows)
