"""Two processes under torchrun compute what one computes: a digits loop, from the classifiers to the history."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lib import distributed, image_experiments, paths, profiles
from lib.checks import BadInput
from lib.generators.flow import Flow
from lib.generators.networks import MlpSettings
from lib.loop import retrain
from lib.runs import Store

TOLERANCE = 1e-5  # relative, of every number of the history
ROUNDS = 2
CHANGES = {
    "images.p0_weights": "", "images.channels": [64], "images.blocks": 1, "images.first_steps": 100,
    "images.reward_epochs": 2, "images.evaluator_epochs": 2, "images.reward_width": 0.3,
    "images.evaluator_width": 0.3, "images.label_smoothing": 0.0, "images.n_keep": 96, "images.n_quality": 50,
    "images.rounds": ROUNDS, "images.round_steps": 20, "images.shards": 3,
}  # fmt: skip


def loop(folder: Path) -> pd.DataFrame:
    """The history of a short loop whose run folder is folder/run."""
    image_experiments.studio.cache_clear()
    settings = profiles.load("quick", CHANGES).images
    task = image_experiments.image_task(image_experiments.studio(settings), "airplane")
    config = image_experiments.image_config(task, settings, "mixed", 0, ROUNDS)
    return retrain(config, run_dir=folder / "run").history.drop(columns="seconds")


def main():
    """What torchrun starts."""
    distributed.setup()
    folder = Path(sys.argv[1])
    loop(folder).to_json(folder / f"history_{distributed.rank()}.json", double_precision=15)


def two_processes(folder: Path) -> list[pd.DataFrame]:
    """The history as each of two processes sees it."""
    places = {"CURATED_LOOPS_RUNS": str(folder / "runs"), "PYTHONPATH": str(paths.PROJECT), "OMP_NUM_THREADS": "1"}
    environment = os.environ | places | {"TQDM_DISABLE": "1", "CUDA_VISIBLE_DEVICES": ""}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run([*torchrun, __file__, str(folder)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [pd.read_json(folder / f"history_{rank}.json") for rank in range(2)]


def one_process(folder: Path) -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURATED_LOOPS_RUNS", str(folder / "runs"))
        patch.setattr(torch.cuda, "is_available", lambda: False)
        return loop(folder)


@pytest.fixture(scope="module")
def histories(tmp_path_factory):
    """{processes: (folder, [history as each process sees it])}."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    return {1: (one, [one_process(one)]), 2: (two, two_processes(two))}


def test_the_history_does_not_depend_on_the_number_of_processes(histories):
    (one,), (two, _) = histories[1][1], histories[2][1]
    assert one["loss"][1:].nunique() == 2, "it trained"
    assert one["share_0"].nunique() == one["mean_reward"].nunique() == ROUNDS + 1, "it moved"
    assert list(one) == list(two)
    np.testing.assert_allclose(two.to_numpy(), one.to_numpy(), rtol=TOLERANCE, atol=0)


def test_every_process_has_the_same_history(histories):
    first, second = histories[2][1]
    assert first.equals(second)


def test_weights_and_samples_are_those_of_one_process(histories):
    for t in range(ROUNDS + 1):
        one, two = (Store(histories[n][0] / "run", {}).load(f"round_{t:03d}")[0] for n in (1, 2))
        assert one.keys() == two.keys()
        for key in one:
            # Of the whole tensor: Adam turns the rounding of a gradient near 0 into a step of either sign.
            apart = (two[key].float() - one[key].float()).norm()
            assert apart <= 1e-3 * one[key].float().norm(), key


def test_one_process_writes(histories):
    alone, shared = (
        {path.relative_to(histories[n][0]) for path in histories[n][0].rglob("*.safetensors")} for n in (1, 2)
    )
    assert alone == shared
    assert len(shared) == ROUNDS + 1 + 2 + 1  # rounds, classifiers, p_0


def test_a_run_begun_by_two_processes_is_finished_by_one(histories):
    folder, (two, _) = histories[2]
    (folder / "run" / f"round_{ROUNDS:03d}.safetensors").unlink()
    np.testing.assert_allclose(one_process(folder).to_numpy(), two.to_numpy(), rtol=TOLERANCE, atol=0)


@pytest.mark.parametrize(("batch", "shards", "parts"), [(8, 1, 1), (8, 2, 2), (4, 3, 2)])
def test_a_process_without_a_shard_is_refused(monkeypatch, batch, shards, parts):
    monkeypatch.setattr(distributed, "processes", lambda: 3)
    flow = Flow(MlpSettings(width=8, blocks=1))
    with pytest.raises(BadInput, match=f"shards = {shards}: .* it gives {parts} parts for 3 processes"):
        flow.fit(torch.zeros(9, 1, 8, 8, dtype=torch.uint8), 1, seed=0, batch=batch, shards=shards)


def test_without_torchrun_nothing_changes():
    distributed.setup()
    assert (distributed.processes(), distributed.rank(), distributed.is_first()) == (1, 0, True)
    assert distributed.own([1, 2, 3]) == [1, 2, 3]
    tensor = torch.tensor([1.0])
    distributed.add_up([tensor])
    assert tensor == 1
    assert distributed.on_first(lambda: None) is None


if __name__ == "__main__":
    main()
