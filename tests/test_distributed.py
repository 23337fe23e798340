"""Two processes under torchrun compute what one computes: a loop on digits, from the classifiers to the history."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from lib import distributed, paths
from lib.runs import Store

TOLERANCE = 1e-5  # relative, of every number of the history
LOOP = """
import json, sys
from pathlib import Path
from lib import distributed
distributed.setup()  # first: it reads torchrun's environment variables
from lib import image_experiments, profiles
from lib.loop import retrain
changes = {
    "images.p0_weights": "", "images.channels": [32], "images.blocks": 1, "images.first_steps": 12,
    "images.reward_epochs": 1, "images.evaluator_epochs": 1, "images.reward_width": 0.2,
    "images.evaluator_width": 0.2, "images.label_smoothing": 0.0, "images.n_keep": 96, "images.n_quality": 50,
    "images.rounds": 2, "images.round_steps": 8, "images.shards": 3,
} | json.loads(sys.argv[2])
settings = profiles.load("quick", changes).images
parts = image_experiments.studio(settings)
task = image_experiments.image_task(parts, "airplane")
config = image_experiments.image_config(task, settings, "mixed", 0, settings.rounds)
run = retrain(config, run_dir=Path(sys.argv[1]) / "run")
run.history.to_csv(f"{sys.argv[1]}/history_{distributed.rank()}.csv", index=False)
"""


def loop(folder, processes, changes=None):
    """The finished command; its run folder and one history a process are in `folder`."""
    folder.mkdir(exist_ok=True)
    (folder / "loop.py").write_text(LOOP)
    python = [sys.executable]
    if processes > 1:
        python += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    places = {"CURATED_LOOPS_RUNS": str(folder / "runs"), "PYTHONPATH": str(paths.PROJECT), "OMP_NUM_THREADS": "1"}
    environment = os.environ | places | {"TQDM_DISABLE": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [*python, str(folder / "loop.py"), str(folder), json.dumps(changes or {})]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def histories(tmp_path_factory):
    """{processes: (folder, [history as each process sees it])}."""
    found = {}
    for processes in (1, 2):
        folder = tmp_path_factory.mktemp(f"processes_{processes}")
        done = loop(folder, processes)
        assert done.returncode == 0, done.stderr
        tables = [pd.read_csv(folder / f"history_{rank}.csv") for rank in range(processes)]
        found[processes] = folder, [table.drop(columns="seconds") for table in tables]
    return found


def test_the_history_does_not_depend_on_the_number_of_processes(histories):
    (one,), (two, _) = histories[1][1], histories[2][1]
    assert one["loss"][1:].nunique() == 2, "it trained"
    assert one["share_0"].nunique() > 1, "it moved"
    assert list(one) == list(two)
    np.testing.assert_allclose(two.to_numpy(), one.to_numpy(), rtol=TOLERANCE, atol=0)


def test_every_process_has_the_same_history(histories):
    first, second = histories[2][1]
    assert first.equals(second)


def test_weights_and_samples_are_those_of_one_process(histories):
    for t in range(3):
        one, two = (Store(histories[n][0] / "run", {}).load(f"round_{t:03d}")[0] for n in (1, 2))
        assert one.keys() == two.keys()
        for key in one:
            torch.testing.assert_close(two[key].float(), one[key].float(), rtol=1e-4, atol=1e-5)


def test_one_process_writes(histories):
    alone, shared = (
        {path.relative_to(histories[n][0]) for path in histories[n][0].rglob("*.safetensors")} for n in (1, 2)
    )
    assert alone == shared
    assert len(shared) == 3 + 2 + 1  # rounds, classifiers, p_0


def test_a_run_begun_by_two_processes_is_finished_by_one(histories):
    folder, (two, _) = histories[2]
    (folder / "run" / "round_002.safetensors").unlink()
    assert loop(folder, 1).returncode == 0
    again = pd.read_csv(folder / "history_0.csv").drop(columns="seconds")
    np.testing.assert_allclose(again.to_numpy(), two.to_numpy(), rtol=TOLERANCE, atol=0)


def test_a_process_without_a_shard_is_refused_in_one_line(tmp_path):
    done = loop(tmp_path / "few", 2, {"images.shards": 1})
    assert done.returncode != 0
    assert "shards = 1: must be larger, or the batch: it gives 1 parts for 2 processes" in done.stderr


def test_without_torchrun_nothing_changes():
    distributed.setup()
    assert (distributed.processes(), distributed.rank(), distributed.is_first()) == (1, 0, True)
    assert distributed.own([1, 2, 3]) == [1, 2, 3]
    tensor = torch.tensor([1.0])
    distributed.add_up([tensor])
    assert tensor == 1
    assert distributed.on_first(lambda: None) is None
