"""SIGKILL at any moment, in the middle of a write too; the same command again ends with the same bits.

KILLS=20 pytest tests/test_kill.py kills each loop that often.
"""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress

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
IMPORTS = """
import itertools, json, os, signal, sys, threading, torch
from lib import experiments, image_experiments, profiles, sealed, toy
from lib.generators import training
from lib.loop import retrain
"""
AFTER = """
retrain(config).history.drop(columns="seconds").to_csv("history.csv", index=False)
"""
# Imports take longer than these loops: one process makes them, and each loop is a copy of it.
NURSERY = """
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

torch.optim.Adam([torch.zeros(1)])  # the first optimiser imports half of PyTorch
assert len(os.listdir("/proc/self/task")) == threading.active_count() == 1, "a copy would lack the other threads"
print("ready", flush=True)
for line in sys.stdin:
    folder, code, dies = json.loads(line)
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what the loop prints is no answer
        os.chdir(folder)
        os.environ["CURATED_LOOPS_RUNS"] = folder + "/runs"
        if dies == "half a file":
            sealed.save_file = die_in(sealed.save_file, 2, True)
        elif dies == "before a rename":
            os.replace = die_in(os.replace, 3, False)
        exec(code)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Loop:
    """A loop that has just begun, or goes on, in a folder; it may kill itself in its second or third write."""

    def __init__(self, nursery, folder, loop, dies=""):
        folder.mkdir(exist_ok=True)
        self.nursery = nursery
        nursery.stdin.write(json.dumps([str(folder), LOOPS[loop] + AFTER, dies]) + "\n")
        nursery.stdin.flush()
        self.pid = int(nursery.stdout.readline())

    def kill(self):
        with suppress(ProcessLookupError):  # it was at its end
            os.kill(self.pid, signal.SIGKILL)

    def wait(self):
        """The exit code; of what was killed, the signal's number with a minus."""
        return int(self.nursery.stdout.readline())


@pytest.fixture(scope="module")
def nursery():
    environment = os.environ | {"PYTHONPATH": str(paths.PROJECT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(
        [sys.executable, "-c", IMPORTS + NURSERY], env=environment, text=True, **pipes
    ) as process:
        assert process.stdout.readline() == "ready\n"  # how long a loop takes is measured without the imports
        yield process
        process.stdin.close()


def anew(folder, loop):
    """The same command again, in a process of its own."""
    environment = os.environ | {"CURATED_LOOPS_RUNS": str(folder / "runs"), "PYTHONPATH": str(paths.PROJECT)}
    folder.mkdir(exist_ok=True)
    subprocess.run([sys.executable, "-c", IMPORTS + LOOPS[loop] + AFTER], cwd=folder, env=environment, check=True)


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


@pytest.mark.skipif(sys.platform != "linux", reason="copies of a process: Linux")
@pytest.mark.parametrize("loop", LOOPS)
def test_a_run_killed_again_and_again_equals_an_uninterrupted_one(tmp_path, nursery, loop):
    whole, moments = tmp_path / "whole", random.Random(0)
    began = time.perf_counter()
    assert Loop(nursery, whole, loop).wait() == 0
    seconds = time.perf_counter() - began
    killed, finished, attempt = 0, 0, itertools.count()
    while killed < KILLS:
        broken, i = tmp_path / f"broken_{finished}", next(attempt)
        child = Loop(nursery, broken, loop, ["", "half a file", "", "before a rename"][i % 4])
        if i % 2 == 0:
            time.sleep(moments.uniform(0, 0.4 * seconds))
            child.kill()
        code = child.wait()
        if code == -signal.SIGKILL:
            killed += 1
        else:  # it was at its end: the next kills get a new run
            assert code == 0
            assert_same(broken, whole)
            finished += 1
    broken = tmp_path / f"broken_{finished}"
    anew(broken, loop)
    assert_same(broken, whole)
    print(f"{loop}: {killed} kills, {finished + 1} of {finished + 1} runs as if there had been none")
