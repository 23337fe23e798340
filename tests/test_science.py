"""The paper's toy result on a small budget: a real network, retrained by the code the notebooks call."""

import math

import numpy as np
import pytest
import torch

from lib import experiments, profiles, rewards, toy
from lib.experiments import toy_experiment

SMALL = {"toy.seeds": 1, "toy.rounds": 4, "toy.n_keep": 2048, "toy.n_real": 20_000, "toy.first_steps": 1500,
         "toy.grid": 100}  # fmt: skip


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURATED_LOOPS_RUNS", str(tmp_path_factory.mktemp("runs")))
        return toy_experiment("gaussians", profiles.load("quick", SMALL), seed=0)


def test_curated_data_alone_leave_one_mode(experiment):
    history = experiment.histories("curated")
    assert history["live_groups"].iloc[0] == 8
    assert history["live_groups"].iloc[-1] == 1
    assert history["rewarded_share"].iloc[-1] > 0.95


def test_real_data_keep_all_modes_alive_and_the_reward_above_its_start(experiment):
    history = experiment.histories("mixed")
    assert history["live_groups"].tolist() == [8] * 5
    assert history["mean_exp_reward"].iloc[-1] > history["mean_exp_reward"].iloc[0] + 0.2


def test_without_a_choice_nothing_is_preferred(experiment):
    history = experiment.histories("control")
    assert np.abs(history["rewarded_share"] - 1 / 8).max() < 0.05
    assert (history["live_groups"] == 8).all()


@pytest.mark.parametrize("arm", ["curated", "mixed", "control"])
def test_the_network_tracks_the_exact_dynamics(experiment, arm):
    measured, exact = experiment.histories(arm), experiment.exact[arm]
    assert measured["round"].tolist() == exact["round"].tolist() == list(range(5))
    assert np.abs(measured["rewarded_share"] - exact["rewarded_share"]).max() < 0.08


def test_measured_and_exact_histories_share_their_columns(experiment):
    assert set(experiment.exact["mixed"].columns) <= set(experiment.histories("mixed").columns)


def test_an_arm_is_what_its_name_says():
    found = {arm: experiments.arm_parameters(arm, 4, 0.5) for arm in experiments.ARMS}
    assert found == {"curated": (4, math.inf), "mixed": (4, 0.5), "control": (1, math.inf)}


TOY = {
    "gamma": 3.0,
    "n_real": 300,
    "first_steps": 4,
    "round_steps": 3,
    "batch": 16,
    "width": 8,
    "variance": "posterior",
}


@pytest.mark.parametrize("key", TOY)
def test_every_toy_setting_tells_a_run_from_another(key):
    plain = profiles.load("quick").toy
    one, two = (experiments.toy_task(toy.moons(), s, 0) for s in (plain, plain.model_copy(update={key: TOY[key]})))
    assert one.settings != two.settings


def test_the_toy_task_has_the_profiles_reward_and_sampler():
    s = profiles.load("quick").toy.model_copy(update={"gamma": 3.0, "width": 8, "variance": "posterior"})
    data = toy.moons()
    task = experiments.toy_task(data, s, 0)
    x, model = data.sample(50, seed=1), task.generator(0)
    assert torch.equal(task.reward(x), rewards.distance(x, data.centre, 3.0, data.r_min))
    assert (model.variance, model.net.point.out_features) == ("posterior", 8)


def test_points_of_the_data_measure_what_the_exact_start_says():
    data, s = toy.gaussians(), profiles.load("quick").toy
    x = data.sample(100_000, seed=1)
    found = experiments.toy_task(data, s, 0).measure(x, data.label(x))
    exact = experiments.exact_history(data, s, "control").iloc[0]
    assert found == pytest.approx({key: exact[key] for key in found}, abs=0.01)


@pytest.mark.parametrize("arm", experiments.ARMS)
def test_a_perfect_model_on_many_samples_follows_the_exact_dynamics(arm):
    data = toy.gaussians()
    settings = profiles.load("quick", {"toy.rounds": 3, "toy.grid": 64, "toy.n_keep": 200_000}).toy
    exact = experiments.exact_history(data, settings, arm)
    found = experiments.finite_histories(data, settings, arm, exact, 0, repeats=2)
    assert found["tv_to_exact"].max() < 0.01
    wide = found.groupby("round")[["mean_exp_reward", "in_mode_std"]].mean()
    assert wide.to_numpy() == pytest.approx(exact[["mean_exp_reward", "in_mode_std"]].to_numpy(), abs=0.01)
    counts = found["share_0"] * settings.n_keep * experiments.arm_parameters(arm, settings.k, settings.lam)[0]
    assert counts.to_numpy() == pytest.approx(counts.round().to_numpy(), abs=1e-6)
    kept = found["share_0"] * settings.n_keep  # the pool is K times as large, and tells shares more finely
    assert (arm == "control") == bool(np.allclose(kept, kept.round(), atol=1e-6))


@pytest.mark.parametrize(
    ("arm", "k", "lam"), [("curated", 8, math.inf), ("mixed", 8, 0.25), ("control", 1, math.inf)]
)
def test_settings_reach_the_loop(arm, k, lam):
    changes = {"k": 8, "lam": 0.25, "menus": "resample", "start": "cold", "n_keep": 50, "rounds": 7}
    settings = profiles.load("quick").toy.model_copy(update=changes)
    task = experiments.toy_task(toy.gaussians(), settings, 3)
    config = experiments.toy_config(task, settings, arm, 3)
    assert (config.k, config.lam, config.menus, config.start) == (k, lam, "resample", "cold")
    assert (config.n_keep, config.n_pool, config.seed, config.rounds) == (50, 50 * k, 3, 7)


def test_stored_points_are_the_runs_own_round_by_round(experiment):
    table = experiments.stored_points(experiment, [0, 2])
    for (arm, t), rows in table.groupby(["arm", "round"]):
        drawn = experiment.runs[arm][0].samples(t)
        assert rows[["x1", "x2"]].to_numpy() == pytest.approx(drawn.numpy()[: len(rows)], abs=1e-3)


def test_a_perfect_models_menus_that_share_a_pool_spread_further():
    data, spread = toy.gaussians(), []
    for menus in ("disjoint", "resample"):
        settings = profiles.load(
            "quick", {"toy.rounds": 1, "toy.grid": 32, "toy.n_keep": 50, "toy.menus": menus}
        ).toy
        exact = experiments.exact_history(data, settings, "control")
        found = experiments.finite_histories(data, settings, "control", exact, 0, repeats=300)
        spread.append(found.query("round == 1").filter(like="share_").var().sum())
    assert spread[1] / spread[0] == pytest.approx(3 / 2, rel=0.15)  # three draws of 50 where there were two
