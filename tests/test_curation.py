import math

import numpy as np
import pytest
import torch
from scipy import stats

from lib import curation, population
from lib.checks import BadInput
from lib.curation import k_choice


def kept_counts(reward, k, n_keep, values, **options):
    """How often a sample of each reward value is kept."""
    kept = reward[k_choice(reward, k, n_keep, **options)]
    return np.array([int((kept == value).sum()) for value in values])


def test_one_menu_follows_luces_rule():
    reward = torch.tensor([0.0, 1.0, 2.0, -1.0])
    chosen = [int(k_choice(reward, 4, 1, seed=s)[0]) for s in range(6000)]
    expected = 6000 * reward.double().softmax(0).numpy()
    assert stats.chisquare(np.bincount(chosen, minlength=4), expected).pvalue > 1e-3


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("menus", ["disjoint", "resample"])
def test_kept_types_follow_the_exact_law_of_a_menu_of_k(k, menus):
    values, prob = np.array([-1.0, 0.0, 1.5]), np.array([0.5, 0.3, 0.2])
    reward = np.random.default_rng(k).permutation(np.repeat(values, (prob * 300_000).astype(int)))
    reward = torch.tensor(reward)
    counts = kept_counts(reward, k, 60_000, values, seed=k, menus=menus)
    expected = 60_000 * prob * population.choice_weight(values, prob, k)
    assert stats.chisquare(counts, expected).pvalue > 1e-3


@pytest.mark.parametrize("menus", ["disjoint", "resample"])
def test_menu_of_one_ignores_the_reward(menus):
    reward = torch.tensor([-1000.0, 0.0, 1000.0, 5.0] * 10_000)
    counts = kept_counts(reward, 1, 8000, [-1000.0, 0.0, 1000.0, 5.0], seed=3, menus=menus)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_constant_reward_keeps_every_sample_equally_often():
    chosen = torch.cat([k_choice(torch.full((12,), 7.0), 4, 3, seed=s) for s in range(4000)])
    assert stats.chisquare(np.bincount(chosen.numpy(), minlength=12)).pvalue > 1e-3


@pytest.mark.parametrize("menus", ["disjoint", "resample"])
def test_large_pool_matches_the_population_step(menus):
    reward = np.random.default_rng(0).normal(scale=2, size=80_000)
    exact = population.step(np.full(80_000, 1 / 80_000), reward, 4)
    kept = k_choice(torch.as_tensor(reward), 4, 20_000, seed=5, menus=menus)
    edges = np.quantile(reward, [0.1, 0.3, 0.5, 0.7, 0.9])
    bins = np.searchsorted(edges, reward)
    share, expected = np.bincount(bins[kept], minlength=6) / 20_000, np.bincount(bins, exact, minlength=6)
    z = (share - expected) / np.sqrt(expected * (1 - expected) / 20_000)
    assert np.abs(z).max() < 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_blocks_of_menus_cover_every_menu_once(monkeypatch, dtype):
    monkeypatch.setattr(curation, "BLOCK", 7)
    reward = torch.randn(400, generator=torch.Generator().manual_seed(1)).to(dtype)
    kept = k_choice(reward, 4, 100, seed=0)
    assert torch.equal(kept % 100, torch.arange(100))
    assert reward[kept].double().mean() > reward.double().mean() + 0.3


@pytest.mark.parametrize("menus", ["disjoint", "resample"])
def test_the_number_of_threads_does_not_matter(monkeypatch, menus):
    monkeypatch.setattr(curation, "BLOCK", 1 << 10)
    reward, before, kept = torch.randn(40_000), torch.get_num_threads(), []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        kept.append(k_choice(reward, 4, 10_000, seed=0, menus=menus))
    torch.set_num_threads(before)
    assert torch.equal(kept[0], kept[1])
    assert torch.equal(kept[0], kept[2])


def test_disjoint_menus_show_no_sample_twice_and_deliver_the_count_asked_for():
    for n, k, n_keep in [(100, 4, 25), (103, 4, 25), (7, 7, 1), (50, 1, 50), (10, 3, 0)]:
        kept = k_choice(torch.randn(n), k, n_keep, seed=1)
        assert kept.dtype == torch.int64
        assert kept.shape == (n_keep,)
        assert len(kept.unique()) == n_keep
        assert n_keep == 0 or (kept.min() >= 0 and kept.max() < n)


def test_resampled_menus_may_outnumber_the_pool():
    kept = k_choice(torch.randn(10), 4, 1000, seed=1, menus="resample")
    assert kept.shape == (1000,)


def test_a_reward_far_above_the_rest_always_wins_its_menu():
    reward = torch.tensor([-1000.0, 1000.0] * 500)
    kept = k_choice(reward, 1000, 1, seed=2)
    assert reward[kept].item() == 1000.0
    wins = [bool(reward[k_choice(reward[:2], 2, 1, seed=s)] == 1000.0) for s in range(50)]
    assert all(wins)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("hopeless", [-1e30, -200.0])
def test_odds_of_zero_are_never_met_even_at_the_ends_of_u(dtype, hopeless):
    shown = torch.tensor([hopeless - 1000, 1e3, hopeless - 1000], dtype=dtype)[:, None].expand(3, 4)
    u = torch.tensor([0.0, 2.0**-24, 0.5, 1 - 2.0**-24], dtype=dtype)  # what torch.rand can give in float32
    assert curation._seats(shown, u).tolist() == [1, 1, 1, 1]


def test_the_ends_of_u_choose_the_ends_of_the_menu():
    u = torch.tensor([0.0, 1 - 2.0**-24])
    for k in (2, 4, 1000):
        assert curation._seats(torch.zeros(k, 2), u).tolist() == [k - 1, 0]


def test_rewards_may_span_all_floats():
    reward = torch.tensor([-1e30, 1e30, 0.0, -3e38] * 1000)[torch.randperm(4000)]
    kept = reward[k_choice(reward, 2, 2000, seed=1)]
    best = reward.reshape(2, 2000).amax(dim=0)
    assert torch.equal(kept, best)


def test_every_seat_of_a_long_menu_of_equals_is_as_likely():
    k, n_keep = 300, 30_000
    seats = k_choice(torch.zeros(k * n_keep), k, n_keep, seed=4) // n_keep
    assert stats.chisquare(np.bincount(seats, minlength=k)).pvalue > 1e-3
    last = int((seats == k - 1).sum())
    assert abs(last - n_keep / k) < 4 * math.sqrt(n_keep / k)


def test_close_choices_between_large_rewards_keep_their_odds():
    reward = torch.tensor([1000.0, 1001.0])
    chosen = [int(k_choice(reward, 2, 1, seed=s)[0]) for s in range(4000)]
    p = 1 / (1 + math.exp(-1))
    assert abs(np.mean(chosen) - p) < 4 * math.sqrt(p * (1 - p) / 4000)


@pytest.mark.parametrize("menus", ["disjoint", "resample"])
def test_seed_decides_the_choice(menus):
    reward = torch.randn(400, generator=torch.Generator().manual_seed(0))
    once, again, other = (k_choice(reward, 4, 100, seed=s, menus=menus) for s in (1, 1, 2))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k = 0"),
        ({"k": 2.5}, "k = 2.5"),
        ({"n_keep": -1}, "n_keep = -1"),
        ({"n_keep": 6}, "n_keep = 6: must be at most 5: 10 samples fill 5 menus of 2"),
        ({"k": 11, "n_keep": 1}, "10 samples fill 0 menus of 11"),
        ({"menus": "overlapping"}, "disjoint, resample"),
        ({"reward": torch.tensor([0.0] * 9 + [math.nan])}, "1 of 10 not finite"),
        ({"reward": torch.tensor([0.0] * 8 + [math.inf, -math.inf])}, "2 of 10 not finite"),
        ({"reward": torch.zeros(0)}, "reward.shape"),
        ({"reward": torch.zeros(10, 1)}, "reward.shape"),
        ({"reward": torch.tensor(1.0)}, "reward.shape"),
    ],
)
def test_k_choice_refuses_bad_input_with_the_numbers(change, message):
    with pytest.raises(BadInput, match=message):
        k_choice(**({"reward": torch.zeros(10), "k": 2, "n_keep": 5, "seed": 0} | change))
