"""Algorithm 1 without a network: the generator here learns a law over a few atoms exactly, up to sampling."""

import math
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from lib import finite, loop, metrics, population
from lib.checks import BadInput
from lib.generators.training import as_mixture
from lib.loop import Config, Task, fit_first, mix, retrain
from lib.seeds import torch_rng

REWARD = torch.tensor([0.0, -1.0, 0.5, 1.5, -3.0], dtype=torch.float64)
REFERENCE = np.array([0.3, 0.25, 0.2, 0.05, 0.2])
ATOMS = len(REWARD)
CURATED, ROUNDS, TOLERANCE = 60_000, 4, 0.025  # 4 standard deviations of the last round


class Exact:
    """A law over atoms 0..4; a fit takes it to `1 - inertia` of the way to the training data's.

    Keeps the seeds it was given in `calls`, and raises in the fit numbered `fails_at`.
    """

    def __init__(self, inertia=0.0, calls=None, fails_at=None, draws=5000):
        self.inertia, self.fails_at, self.draws = inertia, fails_at, draws
        self.calls = [] if calls is None else calls
        self.prob = torch.full((ATOMS,), 1 / ATOMS, dtype=torch.float64)

    def fit(self, data, steps, *, seed):
        self.calls.append(("fit", seed))
        if self.fails_at is not None and sum(name == "fit" for name, _ in self.calls) > self.fails_at:
            raise KeyboardInterrupt
        rows = as_mixture(data).draw(self.draws, torch_rng(seed)).ravel()
        new = rows.bincount(minlength=ATOMS).double() / len(rows)
        self.prob.mul_(self.inertia).add_(new, alpha=1 - self.inertia)  # in place, as an optimiser does
        return [float(steps - i) for i in range(steps)]

    def sample(self, n, *, seed):
        self.calls.append(("sample", seed))
        return torch.multinomial(self.prob, n, replacement=True, generator=torch_rng(seed))[:, None]

    def state_dict(self):
        return {"prob": self.prob}

    def load_state_dict(self, state):
        self.prob.copy_(state["prob"])


def atoms_task(**generator):
    real = torch.repeat_interleave(torch.arange(ATOMS), torch.tensor(REFERENCE * 2000).round().long())[:, None]
    return Task(
        name="atoms",
        settings={"generator": {"inertia": generator.get("inertia", 0.0)}},
        real=real,
        generator=lambda seed: Exact(**generator),
        fit_first={"steps": 20},
        fit_round={"steps": 10},
        reward=lambda x: REWARD[x.ravel()],
        label=lambda x: x.ravel(),
        groups=ATOMS,
        measure=lambda x, label: {"third": float((label == 3).double().mean())},
    )


def config(task=None, **change):
    base = {"rounds": ROUNDS, "k": 4, "lam": math.inf, "n_pool": 4 * CURATED, "n_keep": CURATED, "seed": 1}
    return Config(task or atoms_task(draws=400_000), **(base | change))


def shares(run):
    return run.history[[f"share_{i}" for i in range(ATOMS)]].to_numpy()


def exact(k, lam):
    return np.array(population.trajectory(REFERENCE, REWARD.numpy(), k, ROUNDS, lam, REFERENCE))


def small(**change):
    return config(**({"task": atoms_task(), "n_pool": 400, "n_keep": 100, "n_store": 50} | change))


def assert_same(one, two):
    """Equal bit for bit, in everything but the time taken."""
    assert one.history.drop(columns="seconds").equals(two.history.drop(columns="seconds"))
    for t in range(len(one.history)):
        assert torch.equal(one.samples(t), two.samples(t))
        assert all(torch.equal(a, b) for a, b in zip(one.pool(t), two.pool(t), strict=True))
        assert torch.equal(one.weights(t)["prob"], two.weights(t)["prob"])


def round_file(folder, t):
    return folder / f"round_{t:03d}.safetensors"


# --- the loop against its exact dynamics ---


@pytest.mark.parametrize(
    ("k", "lam", "menus", "start"),
    [
        (4, math.inf, "disjoint", "warm"),
        (4, math.inf, "resample", "cold"),
        (2, math.inf, "disjoint", "cold"),
        (4, 0.5, "disjoint", "warm"),
        (4, 2.0, "resample", "warm"),
        (4, 2.0, "disjoint", "cold"),
        (1, math.inf, "disjoint", "warm"),
    ],
)
def test_loop_follows_the_exact_dynamics(k, lam, menus, start):
    run = retrain(config(k=k, lam=lam, menus=menus, start=start))
    assert np.abs(shares(run) - exact(k, lam)).max() < TOLERANCE


@pytest.mark.parametrize("k", [1, 2])
def test_a_loop_on_few_samples_wanders_as_far_as_a_perfect_model_does(k):
    n, rounds, seeds = 15, 4, range(16)
    task = replace(atoms_task(draws=100_000), reward=lambda x: 0.3 * REWARD[x.ravel()])
    runs = [retrain(config(task, rounds=rounds, k=k, n_pool=k * n, n_keep=n, seed=s)) for s in seeds]
    ours = np.array([metrics.entropy(shares(run)[-1]) for run in runs])
    loop = REFERENCE, 0.3 * REWARD.numpy(), k, rounds, n
    table = finite.histories(lambda p: {"entropy": metrics.entropy(p)}, k * n, *loop, seed=0, repeats=1000)
    ends = table.query(f"round == {rounds}")["entropy"]
    assert abs(ours.mean() - ends.mean()) < 4 * ends.std() / math.sqrt(len(ours))
    assert 0.5 < ours.std() / ends.std() < 1.8
    far = metrics.entropy(population.trajectory(*loop[:4])[-1]) - ends.mean()  # from infinitely many samples
    assert far > 4 * ends.std() / math.sqrt(len(ours))


@pytest.mark.parametrize("name", ["reward", "label"])
def test_an_answer_that_is_not_one_number_a_sample_is_refused_before_anything_is_kept(name, tmp_path):
    task = replace(atoms_task(), **{name: lambda x: x})  # (n, 1)
    with pytest.raises(BadInput, match=rf"{name}\(samples\)\.shape = \(\d+, 1\)"):
        retrain(config(task), run_dir=tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))


def test_arms_of_the_exact_dynamics_are_told_apart():
    paths = [
        exact(4, math.inf),
        exact(3, math.inf),
        exact(5, math.inf),
        exact(4, 0.5),
        exact(4, 2.0),
        exact(1, 1.0),
    ]
    for i, one in enumerate(paths):
        for other in paths[:i]:
            assert np.abs(one - other).max() > 2 * TOLERANCE


def test_real_data_alone_keeps_the_reference():
    run = retrain(config(lam=0.0))
    assert np.abs(shares(run) - REFERENCE).max() < TOLERANCE


def test_warm_goes_on_from_the_last_model_and_cold_from_a_new_one():
    first = {}
    for start in ("warm", "cold"):
        run = retrain(config(atoms_task(inertia=0.5, draws=400_000), rounds=1, lam=0.0, start=start))
        first[start] = run.weights(1)["prob"].numpy()
    p_0 = 0.5 / ATOMS + 0.5 * REFERENCE
    assert np.abs(first["warm"] - (0.5 * p_0 + 0.5 * REFERENCE)).max() < 0.005
    assert np.abs(first["cold"] - p_0).max() < 0.005


@pytest.mark.parametrize(("lam", "share"), [(0.0, 0.0), (0.5, 1 / 3), (1.0, 0.5), (4.0, 0.8), (math.inf, 1.0)])
def test_training_rows_are_curated_with_probability_lambda_over_one_plus_lambda(lam, share):
    curated, real = torch.ones(7, 1), torch.zeros(500, 1)
    drawn = mix(curated, real, lam).draw(40_000, torch_rng(0))
    assert drawn.mean().item() == pytest.approx(share, abs=0.012)


def test_every_arm_of_a_seed_starts_from_the_same_model():
    fits = []
    task = atoms_task(calls=fits)
    pure, mixed = retrain(small(task=task)), retrain(small(task=task, lam=1.0))
    assert torch.equal(pure.weights(0)["prob"], mixed.weights(0)["prob"])
    assert sum(name == "fit" for name, _ in fits) == 1 + 2 * ROUNDS
    assert not torch.equal(fit_first(task, 1)["prob"], fit_first(task, 2)["prob"])


# --- what a run records ---


def test_history_has_a_row_a_round_and_the_counts_delivered():
    run = retrain(small())
    assert run.history["round"].tolist() == list(range(ROUNDS + 1))
    assert run.history["n_pool"].tolist() == [400] * (ROUNDS + 1)
    assert run.history["n_curated"].tolist() == [0] + [100] * ROUNDS
    assert (run.history["third"] == run.history["share_3"]).all()
    assert run.history["loss"][1:].tolist() == [1.0] * ROUNDS
    for t in range(ROUNDS + 1):
        reward, label = run.pool(t)
        assert torch.equal(reward, REWARD[label])
        assert torch.equal(run.samples(t).ravel(), label[:50])
        assert run.history["mean_exp_reward"][t] == pytest.approx(reward.exp().mean().item())


def test_no_rounds_leave_the_first_model():
    run = retrain(small(rounds=0))
    assert len(run.history) == 1
    assert torch.equal(run.weights(0)["prob"], fit_first(run.config.task, 1)["prob"])


def test_a_run_fits_once_a_round_and_every_draw_has_its_own_seed(monkeypatch):
    calls, choice = [], loop.k_choice

    def recorded(*args, seed, **options):
        calls.append(("curate", seed))
        return choice(*args, seed=seed, **options)

    monkeypatch.setattr(loop, "k_choice", recorded)
    retrain(small(task=atoms_task(calls=calls)))
    assert [name for name, _ in calls] == ["fit", "sample"] + ["curate", "fit", "sample"] * ROUNDS
    assert len({seed for _, seed in calls}) == len(calls)


def test_the_weights_of_a_round_stay_what_they_were():
    run = retrain(config(rounds=2))
    for t in range(3):
        assert np.abs(run.weights(t)["prob"].numpy() - exact(4, math.inf)[t]).max() < TOLERANCE


def test_only_the_last_round_keeps_its_weights_in_memory():
    run = retrain(small())
    held = [any(key.startswith(loop.MODEL) for key in stored) for stored in run._stored]
    assert held == [False] * ROUNDS + [True]


def test_run_seeds_give_different_runs():
    one, two = retrain(small(seed=1)), retrain(small(seed=2))
    assert not np.array_equal(shares(one), shares(two))


# --- interruption and damage ---


@pytest.mark.parametrize("start", ["warm", "cold"])
@pytest.mark.parametrize("lost", [[0], [2], [ROUNDS], [1, 3], [0, 1, 2, 3], [3, 4]])
def test_lost_rounds_are_made_again_to_the_same_bits(scratch, lost, start):
    whole = retrain(small(start=start), run_dir=scratch / "run")
    for t in lost:
        round_file(scratch / "run", t).unlink()
    assert_same(whole, retrain(small(start=start), run_dir=scratch / "run"))


def test_an_interrupted_run_goes_on_where_it_stopped(scratch):
    whole = retrain(small(), run_dir=scratch / "whole")
    with pytest.raises(KeyboardInterrupt):
        retrain(small(task=atoms_task(fails_at=2)), run_dir=scratch / "run")
    kept = {t: round_file(scratch / "run", t).read_bytes() for t in (0, 1, 2)}
    assert not round_file(scratch / "run", 3).exists()
    calls = []
    assert_same(whole, retrain(small(task=atoms_task(calls=calls)), run_dir=scratch / "run"))
    assert sum(name == "fit" for name, _ in calls) == ROUNDS - 2
    assert all(round_file(scratch / "run", t).read_bytes() == content for t, content in kept.items())


def test_a_finished_run_is_read_back_without_a_fit_or_a_sample():
    calls = []
    first = retrain(small())
    again = retrain(small(task=atoms_task(calls=calls)))
    assert calls == []
    assert_same(first, again)
    assert again.provenance == first.provenance


def test_the_second_of_two_runs_in_one_folder_waits_and_finds_the_work_done(scratch, capfd, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    calls, found = [], []

    class Slow(Exact):
        def fit(self, *arguments, **options):
            time.sleep(0.05)
            return super().fit(*arguments, **options)

    task = replace(atoms_task(), generator=lambda seed: Slow(calls=calls))
    work = [
        threading.Thread(target=lambda: found.append(retrain(small(task=task), run_dir=scratch / "run")))
        for _ in range(2)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert_same(*found)
    assert sum(name == "fit" for name, _ in calls) == 1 + ROUNDS
    assert "another process works here; waiting for it" in capfd.readouterr().err


def test_more_rounds_go_on_from_fewer(scratch):
    calls = []
    short = retrain(small(rounds=2))
    long = retrain(small(task=atoms_task(calls=calls), rounds=4))
    assert [name for name, _ in calls].count("fit") == 2
    assert np.array_equal(shares(short), shares(long)[:3])
    assert_same(short, retrain(small(rounds=2)))
    assert_same(long, retrain(small(rounds=4), run_dir=scratch / "anew"))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip, zero, empty])
@pytest.mark.parametrize("t", [0, 2, ROUNDS])
def test_damaged_rounds_are_named_kept_aside_and_made_again(scratch, damage, t):
    folder = scratch / "run"
    whole = retrain(small(), run_dir=folder)
    damage(round_file(folder, t))
    broken = round_file(folder, t).read_bytes()
    with pytest.warns(UserWarning, match=f"round_{t:03d}.safetensors is damaged"):
        again = retrain(small(), run_dir=folder)
    assert_same(whole, again)
    assert [path.read_bytes() for path in folder.glob("*.damaged-*")] == [broken]


def test_a_damaged_first_model_is_made_again(scratch):
    whole = retrain(small(), run_dir=scratch / "run")
    (p_0,) = (scratch / "runs").glob("atoms-p0-*/p0.safetensors")
    flip(p_0)
    round_file(scratch / "run", 0).unlink()
    with pytest.warns(UserWarning, match="p0.safetensors is damaged"):
        assert_same(whole, retrain(small(), run_dir=scratch / "run"))


# --- settings ---


@pytest.mark.parametrize(
    "change",
    [
        {"k": 5}, {"lam": 1.0}, {"seed": 2}, {"n_keep": 99}, {"n_pool": 401},
        {"menus": "resample"}, {"start": "cold"}, {"n_store": 10},
    ],
)  # fmt: skip
def test_every_setting_tells_a_run_from_another(change):
    base = {"n_keep": 80} | change
    assert small(n_keep=80).settings() != small(**base).settings()
    assert small(n_keep=80).settings() == small(n_keep=80).settings()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k = 0"),
        ({"k": 2.5}, "k = 2.5"),
        ({"k": math.inf}, "k = inf"),
        ({"lam": -1.0}, "lam = -1.0"),
        ({"lam": math.nan}, "lam = nan"),
        ({"n_keep": 101}, "n_keep = 101: must be in 1..100: 400 samples fill 100 menus of 4"),
        ({"n_keep": 0}, "n_keep = 0"),
        ({"n_keep": 2.5}, "n_keep = 2.5"),
        ({"n_pool": 0}, "n_pool = 0"),
        ({"n_pool": 400.5}, "n_pool = 400.5"),
        ({"rounds": -1}, "rounds = -1"),
        ({"rounds": 1.5}, "rounds = 1.5"),
        ({"menus": "overlapping"}, "disjoint, resample"),
        ({"start": "tepid"}, "warm, cold"),
        ({"seed": -1}, "seed = -1"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(scratch, change, message):
    with pytest.raises(BadInput, match=message):
        retrain(replace(small(), **change))
    assert list(scratch.iterdir()) == []


def test_each_cold_start_has_initial_weights_of_its_own():
    seeds = []
    task = replace(atoms_task(), generator=lambda seed: seeds.append(seed) or Exact())
    retrain(small(task=task, start="cold"))
    assert len(set(seeds)) == ROUNDS + 1
