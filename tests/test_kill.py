"""SIGKILL at any moment, the same command again: the run goes on and ends with the same bits."""

import os
import random
import signal
import subprocess
import sys
import time

import torch

from lib import paths
from lib.runs import Store

LOOP = """
from pathlib import Path
from lib import experiments, profiles, toy
from lib.loop import retrain
changes = {"toy.rounds": 4, "toy.first_steps": 60, "toy.round_steps": 30, "toy.n_keep": 512, "toy.n_real": 2000}
settings = profiles.load("quick", changes).toy
task = experiments.toy_task(toy.gaussians(), settings, 0)
print("ready", flush=True)
run = retrain(experiments.toy_config(task, settings, "mixed", 0), run_dir=Path("run"))
run.history.drop(columns="seconds").to_csv("history.csv", index=False)
"""
KILLS = 6


def start(folder):
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"CURATED_LOOPS_RUNS": str(folder / "runs"), "PYTHONPATH": str(paths.PROJECT)}
    command = [sys.executable, "-c", LOOP]
    child = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    child.stdout.readline()  # imports are over: from here on the loop works
    return child


def weights(folder):
    return Store(folder / "run", {}).load("round_004")[0]


def test_a_run_killed_again_and_again_equals_an_uninterrupted_one(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    began = time.perf_counter()
    assert start(whole).wait() == 0
    seconds = time.perf_counter() - began
    moments, killed = random.Random(0), 0
    for _ in range(KILLS):
        child = start(broken)
        time.sleep(moments.uniform(0, 0.4 * seconds))
        child.send_signal(signal.SIGKILL)
        killed += child.wait() == -signal.SIGKILL
    assert killed > 0, "every kill came too late to test anything"
    assert start(broken).wait() == 0
    assert (broken / "history.csv").read_text() == (whole / "history.csv").read_text()
    left, right = weights(broken), weights(whole)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[key], right[key]) for key in left)
