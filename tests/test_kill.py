"""SIGKILL at any moment, in the middle of a write too; the same command again ends with the same bits.

KILLS=20 pytest tests/test_kill.py kills each loop that often.
"""

import itertools
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from lib import paths

KILLS = int(os.environ.get("KILLS", 3))  # of each loop, at random moments and in the middle of a write
LOOPS = {
    "toy": """
changes = {"toy.rounds": 4, "toy.first_steps": 60, "toy.round_steps": 30, "toy.n_keep": 512, "toy.n_real": 2000}
settings = profiles.load("quick", changes).toy
task = experiments.toy_task(toy.gaussians(), settings, 0)
config = experiments.toy_config(task, settings, "mixed", 0)
""",
    "digits": """
training.train.__kwdefaults__["checkpoint_every"] = 20
changes = {
    "images.p0_weights": "", "images.channels": [64], "images.first_steps": 120, "images.round_steps": 20,
    "images.reward_epochs": 3, "images.evaluator_epochs": 3, "images.reward_width": 0.2,
    "images.evaluator_width": 0.2, "images.label_smoothing": 0.0, "images.n_keep": 128, "images.rounds": 2,
    "images.n_quality": 100,
}
settings = profiles.load("quick", changes).images
task = image_experiments.image_task(image_experiments.studio(settings), "airplane")
config = image_experiments.image_config(task, settings, "mixed", 0, 2)
""",
}
BEFORE = """
import itertools, os, signal, sys
from lib import experiments, image_experiments, profiles, sealed, toy
from lib.generators import training
from lib.loop import retrain

def die_in(write, count, halved):
    calls = itertools.count(1)
    def wrapped(*arguments):
        if next(calls) < count:
            return write(*arguments)
        if halved:
            write(*arguments)
            os.truncate(arguments[1], arguments[1].stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    return wrapped

if sys.argv[1] == "half a file":
    sealed.save_file = die_in(sealed.save_file, 2, True)
elif sys.argv[1] == "before a rename":
    os.replace = die_in(os.replace, 3, False)
print("ready", flush=True)
"""
AFTER = """
retrain(config).history.drop(columns="seconds").to_csv("history.csv", index=False)
"""


def start(folder, loop, dies=""):
    """A loop that has just begun, or goes on, in a folder; it may kill itself in its second or third write."""
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"CURATED_LOOPS_RUNS": str(folder / "runs"), "PYTHONPATH": str(paths.PROJECT)}
    command = [sys.executable, "-c", BEFORE + LOOPS[loop] + AFTER, dies]
    child = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    child.stdout.readline()  # imports are over: from here on the loop works
    return child


def results(folder):
    """(history, every stored tensor of every file that a finished run leaves)."""
    tensors = {
        f"{path.parent.name}/{path.stem} {key}": value
        for path in folder.rglob("*.safetensors")
        if path.stem != "unfinished"  # left where the kill fell between the end of training and its removal
        for key, value in load_file(path).items()
    }
    return (folder / "history.csv").read_text(), tensors


def assert_same(broken, whole):
    (history, tensors), (expected, wanted) = results(broken), results(whole)
    assert history == expected
    assert tensors.keys() == wanted.keys()
    assert all(torch.equal(tensors[key], wanted[key]) for key in wanted)
    assert not list(broken.rglob("*.damaged-*")), "a kill leaves no file that looks whole and is not"


@pytest.mark.parametrize("loop", LOOPS)
def test_a_run_killed_again_and_again_equals_an_uninterrupted_one(tmp_path, loop):
    whole, moments = tmp_path / "whole", random.Random(0)
    child = start(whole, loop)
    began = time.perf_counter()
    assert child.wait() == 0
    seconds = time.perf_counter() - began
    killed, finished, attempt = 0, 0, itertools.count()
    while killed < KILLS:
        broken, i = tmp_path / f"broken_{finished}", next(attempt)
        child = start(broken, loop, ["", "half a file", "", "before a rename"][i % 4])
        if i % 2 == 0:
            time.sleep(moments.uniform(0, 0.4 * seconds))
            child.send_signal(signal.SIGKILL)
        if child.wait() == -signal.SIGKILL:
            killed += 1
        else:  # it was at its end: the next kills get a new run
            assert child.returncode == 0
            assert_same(broken, whole)
            finished += 1
    broken = tmp_path / f"broken_{finished}"
    assert start(broken, loop).wait() == 0
    assert_same(broken, whole)
    print(f"{loop}: {killed} kills, {finished + 1} of {finished + 1} runs as if there had been none")
