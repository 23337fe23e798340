"""A perfect model on finitely many samples: expectations in closed form, and the exact dynamics as its limit."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from lib import finite, image_claims, population
from lib.checks import BadInput
from lib.curation import MENUS, k_choice

PROB = np.array([0.4, 0.3, 0.2, 0.1])
REWARD = np.array([0.0, 1.0, -1.0, 2.0])


def unlike(prob):
    """Probability that two draws differ: it falls by a factor of 1 - 1/n in each round of n draws."""
    return 1 - np.square(prob).sum(axis=-1)


def test_without_choice_variety_falls_as_in_a_small_population():
    found = finite.neutral(PROB, rounds=7, n_keep=30, n_pool=120, runs=3, menus="disjoint")
    assert found.shape == (finite.NEUTRAL, 3, 4)
    assert found.mean(axis=(0, 1)) == pytest.approx(PROB, abs=0.02)  # nobody is favoured
    left = unlike(PROB) * (1 - 1 / 30) ** 7 * (1 - 1 / 120)
    assert unlike(found).mean() == pytest.approx(left, rel=0.02)
    found = finite.neutral(PROB, rounds=7, n_keep=30, n_pool=60, runs=3, menus="resample")
    left = unlike(PROB) * (1 - 1 / 30) ** 7 * (1 - 1 / 60) ** 8
    assert unlike(found).mean() == pytest.approx(left, rel=0.02)


@pytest.mark.parametrize("menus", MENUS)
@pytest.mark.parametrize("k", [1, 4])
def test_a_round_spreads_as_far_as_real_menus_do(menus, k):
    """Menus drawn with replacement from one pool carry the pool's own chance, too."""
    n_keep, n_pool = 50, 50 * k
    rng, real, perfect = np.random.default_rng(0), [], []
    for i in range(1500):
        pool = rng.choice(4, n_pool, p=PROB)
        kept = pool[k_choice(torch.tensor(REWARD[pool]), k, n_keep, seed=i, menus=menus).numpy()]
        real.append(np.bincount(kept, minlength=4) / n_keep)
        drawn = n_pool if menus == "resample" else None
        perfect.append(finite.trajectory(PROB, REWARD, k, 1, n_keep, rng, n_pool=drawn)[-1])
    assert np.mean(real, axis=0) == pytest.approx(np.mean(perfect, axis=0), abs=0.008)
    assert np.var(real, axis=0).sum() == pytest.approx(np.var(perfect, axis=0).sum(), rel=0.1)


def test_a_loop_without_choice_is_neutral():
    rngs = [np.random.default_rng(i) for i in range(400)]
    ends = [finite.trajectory(PROB, REWARD, 1, 6, 25, rng)[-1] for rng in rngs]
    assert unlike(np.array(ends)).mean() == pytest.approx(unlike(PROB) * (1 - 1 / 25) ** 6, rel=0.06)


@pytest.mark.parametrize("lam", [math.inf, 0.5])
def test_with_many_samples_it_is_the_exact_dynamics(lam):
    ref = np.array([0.1, 0.2, 0.3, 0.4])
    path = finite.trajectory(PROB, REWARD, 4, 3, 10_000_000, np.random.default_rng(0), lam, ref)
    exact = population.trajectory(PROB, REWARD, 4, 3, lam, ref)
    assert np.array(path) == pytest.approx(np.array(exact), abs=2e-3)


def test_a_round_holds_no_more_than_it_kept():
    path = finite.trajectory(np.full(1000, 1e-3), np.zeros(1000), 2, 2, 10, np.random.default_rng(0))
    for prob in path[1:]:
        assert np.count_nonzero(prob) <= 10
        assert prob * 10 == pytest.approx(np.round(prob * 10), abs=1e-12)


def test_histories_are_measured_on_as_many_samples_as_are_seen():
    table = finite.histories(lambda p: {"first": p[0]}, 8, PROB, REWARD, 4, 2, 50, seed=3, repeats=5)
    assert table.groupby("repeat")["round"].apply(list).tolist() == [[0, 1, 2]] * 5
    assert (table["first"] * 8).to_numpy() == pytest.approx((table["first"] * 8).round().to_numpy(), abs=1e-12)
    assert table.query("round == 2")["first"].nunique() > 1  # each repeat is a loop of its own
    again = finite.histories(lambda p: {"first": p[0]}, 8, PROB, REWARD, 4, 2, 50, seed=3, repeats=2)
    assert again.equals(table[table["repeat"] < 2])


def test_no_samples_are_refused():
    with pytest.raises(BadInput, match="n_keep = 0"):
        finite.trajectory(PROB, REWARD, 4, 1, 0, np.random.default_rng(0))


def still(seeds, rounds=10):
    row = {f"share_{i}": 0.1 for i in range(10)} | {"n_pool": 1024}
    return pd.DataFrame([row | {"seed": s, "round": t} for s in range(seeds) for t in range(rounds + 1)])


def test_chance_shrinks_with_the_samples_kept():
    few, many = (image_claims.by_chance(still(3), n) for n in (256, 50_000))
    assert 0.2 < few.loss < 0.4  # (groups - 1) / (2 n) nats a draw, 0.19 in all in the mean
    assert 0.3 < few.apart < 0.7
    assert many.loss < few.loss / 10
    assert 0.1 < few.rise(0) < 0.3  # a standard deviation of 0.06, and the greatest of three
    assert many.rise(0) < few.rise(0) / 5
    assert image_claims.by_chance(still(3), 256, "resample").loss > few.loss
    assert image_claims.by_chance(still(1), 256).loss > few.loss  # a mean of three varies less
    assert image_claims.by_chance(still(1), 256).apart == 0


def test_histories_depend_on_their_seed():
    def first(seed):
        loop = (PROB, REWARD, 2, 1, 100)
        return finite.histories(lambda p: {"share_0": p[0]}, 1000, *loop, seed=seed, repeats=3)

    assert first(0).equals(first(0))
    assert not first(0)["share_0"].equals(first(1)["share_0"])


def test_real_data_are_mixed_in_whole_and_choices_alone_are_drawn():
    ref, lam, n_keep = np.array([0.1, 0.2, 0.3, 0.4]), 0.7, 10
    path = finite.trajectory(PROB, REWARD, 4, 3, n_keep, np.random.default_rng(0), lam, ref)
    for prob in path[1:]:
        kept = (prob * (1 + lam) - ref) / lam * n_keep
        assert kept == pytest.approx(kept.round(), abs=1e-9)
