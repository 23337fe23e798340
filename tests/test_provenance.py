"""Beside a figure stands where it comes from: what was asked, by which code, on what, from what, how long."""

import json
from datetime import datetime

import pandas as pd
import pytest
import torch

from lib import experiments, figures, image_experiments, paths, products, profiles, runs, verify

TOY = {
    "toy.rounds": 1, "toy.n_real": 300, "toy.n_keep": 32, "toy.first_steps": 4, "toy.round_steps": 2,
    "toy.batch": 16, "toy.width": 8, "toy.seeds": 2, "toy.grid": 32,
}  # fmt: skip
IMAGES = {
    "images.reward_epochs": 1, "images.evaluator_epochs": 1, "images.label_smoothing": 0.0,
    "images.device": "cpu", "images.round_steps": 1, "images.ode_steps": 1, "images.rounds": 1,
    "images.n_keep": 32, "images.n_quality": 30,
}  # fmt: skip
TOLD = {
    "commit", "clean_tree", "code_sha256", "stale", "device", "dtype", "threads", "processor", "python",
    "packages", "started", "seconds", "peak_memory_mib", "seeds", "inputs",
}  # fmt: skip


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")


def saved(profile, run=None):
    """What is written beside a figure."""
    drawn, _ = figures.subplots(1, 1, 2, 2)
    numbers = pd.DataFrame({"x": [0.0]})
    products.figure(drawn, "09_x", profile, seed=5, numbers=numbers, alt="x", run=run)
    return json.loads((paths.figures("quick") / "09_x.json").read_text())


def is_sha256(text):
    return len(text) == 64 and int(text, 16) >= 0


def test_a_figure_computed_on_the_spot_tells_everything():
    about = saved(profiles.load("quick", {"toy.k": 3}))
    assert set(about["provenance"]) >= TOLD
    assert about["provenance"]["seeds"] == [5]
    assert about["profile"]["toy"]["k"] == 3
    assert about["provenance"]["peak_memory_mib"] > 50
    assert about["provenance"]["seconds"] > 0


def test_a_figure_of_runs_tells_their_seeds_time_memory_and_data():
    profile = profiles.load("quick", TOY)
    found = experiments.toy_experiment("moons", profile, 4, ("curated", "control"))
    origin = saved(profile, found.provenance)["provenance"]
    assert set(origin) >= TOLD
    assert origin["seeds"] == [4, 5]
    assert origin["runs"] == 4
    histories = [run.history["seconds"].sum() for arm in found.runs.values() for run in arm]
    assert origin["seconds"] == pytest.approx(sum(histories), abs=0.3)
    assert datetime.fromisoformat(origin["started"]).tzinfo is not None
    assert origin["dtype"] == "float32"
    assert len(origin["inputs"]) == 2
    assert all(map(is_sha256, origin["inputs"].values()))
    others = experiments.toy_experiment("moons", profile, 6, ("control",)).provenance["inputs"]
    assert not set(others.values()) & set(origin["inputs"].values())


def test_a_figure_of_several_experiments_tells_all_their_runs_and_each_once():
    profile = profiles.load("quick", TOY)
    one = experiments.toy_experiment("moons", profile, 4, ("curated", "control"))
    other = experiments.toy_experiment("moons", profile, 5, ("control",))
    both = experiments.provenance(one, other)
    assert (both["runs"], both["seeds"]) == (5, [4, 5, 6])
    found = [
        run for e in (one, other) for arm in e.runs.values() for run in arm if run.config.seed != 5 or e is one
    ]
    assert both["seconds"] == pytest.approx(sum(run.provenance["seconds"] for run in found), abs=0.3)
    assert set(one.provenance["inputs"]) < set(both["inputs"])


def test_a_figure_of_images_tells_precision_and_which_data_and_weights_were_read():
    image_experiments.studio.cache_clear()
    profile = profiles.load("quick", IMAGES)
    found = image_experiments.image_experiment(profile, "airplane", [0], arms=("control",))
    origin = saved(profile, found.provenance)["provenance"]
    assert origin["precision"] == "fp32"
    networks = {"p_0", "evaluator", "reward (fitted)"}
    assert networks < set(origin["inputs"])
    assert sum("images" in name for name in origin["inputs"]) == 2
    assert len(set(origin["inputs"].values())) == 5
    weights = image_experiments.studio(profile.images).p0
    assert origin["inputs"]["p_0"] == runs.tensors_sha256(*weights.state.values())


def test_a_card_of_weights_keeps_its_own_time():
    assert not {"started", "seconds"} & set(runs.provenance())


def test_one_changed_number_changes_a_checksum():
    one = torch.arange(4.0)
    other = one.clone()
    other[2] += 1e-3
    assert runs.tensors_sha256(one) == runs.tensors_sha256(one.clone())
    assert len({runs.tensors_sha256(x) for x in (one, other, one.double(), one.view(2, 2))}) == 4


def test_figures_saved_before_all_this_was_told_are_still_verified(scratch):
    about = saved(profiles.load("quick"))
    path = paths.figures("quick") / "09_x.json"
    for key in ("stale", "inputs", "seeds", "dtype", "started", "peak_memory_mib"):
        about["provenance"].pop(key)
    about["profile"].pop("workflow")
    path.write_text(json.dumps(about))
    (verdict,) = verify.verify(paths.figures("").resolve())
    assert verdict.agrees
