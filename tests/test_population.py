import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit

from lib import population, toy
from lib.checks import BadInput
from lib.population import Rewards, choice_weight, step, trajectory

MENU_SIZES = (1, 2, 3, 4, 16, 64, 256)


def luce_2(reward, prob, at):
    """H^2 by summing over the other sample; expit works in log space, so any span of rewards will do."""
    return np.array([np.sum(prob * 2 * expit(r - reward)) for r in at])


def luce_3(reward, prob, at):
    """H^3 by summing over both other samples, in log space."""
    others = np.logaddexp(reward[:, None], reward[None, :])
    return np.array([3 * prob @ expit(r - others) @ prob for r in at])


def atoms(seed, n, span, distinct=None):
    """(reward, prob) of n atoms with rewards over `span` units, of `distinct` values when given."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(0, span, distinct or n)
    reward = values if distinct is None else rng.choice(values, n)
    prob = rng.dirichlet(np.ones(n))
    return reward, prob


def eight_gaussians(size=64, gamma=10.0):
    """(reward, prob) of the paper's toy on a small grid."""
    data = toy.gaussians()
    cells = toy.grid(data, size)
    gap = np.linalg.norm(cells.points - np.array(data.centre), axis=1) - data.r_min
    return -gamma * gap.clip(0), cells.prob


distributions = (
    arrays(np.float64, 6, elements=st.floats(0, 1)).filter(lambda w: w.sum() > 1e-3).map(lambda w: w / w.sum())
)
rewards_of_six = arrays(np.float64, 6, elements=st.floats(-30, 30))
menu_sizes = st.sampled_from([1, 2, 3, 4, 7, 16, 64, math.inf])


# --- H against its definition ---


@pytest.mark.parametrize("span", [0.0, 1.0, 30.0, 1000.0])
def test_few_rewards_match_the_double_sum(span):
    reward, prob = atoms(1, 40, span)
    assert np.abs(choice_weight(reward, prob, 2) - luce_2(reward, prob, reward)).max() < 1e-12


@pytest.mark.parametrize("span", [0.0, 1.0, 30.0, 1000.0])
def test_few_rewards_match_the_triple_sum(span):
    reward, prob = atoms(2, 40, span)
    assert np.abs(choice_weight(reward, prob, 3) - luce_3(reward, prob, reward)).max() < 1e-12


@pytest.mark.parametrize("span", [1e-6, 0.5, 3.0, 12.0])
def test_many_rewards_match_the_double_and_triple_sum(span):
    reward, prob = atoms(3, 1600, span)
    prepared = Rewards(reward)
    assert len(prepared.levels) < 1600  # the pooled path is the one under test
    at = np.argsort(reward)[[0, 1, 2, 5, 300, 801, 1200, 1590, 1597, 1598, 1599]]
    for k, oracle in ((2, luce_2), (3, luce_3)):
        assert np.abs(choice_weight(prepared, prob, k)[at] - oracle(reward, prob, reward[at])).max() < 1e-12


@pytest.mark.parametrize("k", MENU_SIZES)
@pytest.mark.parametrize(("n", "span"), [(30, 2.0), (30, 1000.0), (2000, 2.0), (2000, 40.0)])
def test_h_averages_to_one(k, n, span):
    reward, prob = atoms(4, n, span)
    assert abs(np.sum(prob * choice_weight(reward, prob, k)) - 1) < 1e-12


def test_menu_of_one_is_exactly_one():
    reward, prob = atoms(5, 50, 9.0)
    assert (choice_weight(reward, prob, 1) == 1.0).all()


def test_infinite_menu_is_the_closed_form():
    reward, prob = atoms(6, 50, 9.0)
    assert np.allclose(
        choice_weight(reward, prob, math.inf), np.exp(reward) / np.sum(prob * np.exp(reward)), rtol=1e-13
    )


def test_infinite_menu_is_the_limit_with_an_error_of_one_over_k():
    reward, prob = atoms(7, 50, 2.0)
    limit = prob * choice_weight(reward, prob, math.inf)
    gap = [np.abs(prob * choice_weight(reward, prob, k) - limit).sum() for k in (64, 128, 256, 512, 1024)]
    ratios = np.array(gap[:-1]) / np.array(gap[1:])
    assert (np.abs(ratios - 2) < 0.1).all()
    assert gap[-1] < 1e-2


@pytest.mark.parametrize("k", [2, 4, 64, math.inf])
def test_a_constant_added_to_the_reward_changes_nothing(k):
    reward, prob = atoms(8, 60, 5.0)
    assert np.abs(choice_weight(reward + 700.0, prob, k) - choice_weight(reward, prob, k)).max() < 1e-11


@pytest.mark.parametrize("n", [60, 3000])
@pytest.mark.parametrize("k", [2, 4, 64])
def test_h_lies_between_0_and_k_and_grows_with_the_reward(n, k):
    reward, prob = atoms(9, n, 20.0)
    h = choice_weight(reward, prob, k)
    assert h.min() >= 0
    assert h.max() <= k
    assert np.diff(h[np.argsort(reward)]).min() > -1e-12


@given(rewards_of_six, distributions, menu_sizes)
@settings(max_examples=60, deadline=None)
def test_step_keeps_a_distribution_and_never_lowers_the_mean_reward(reward, prob, k):
    after = step(prob, reward, k)
    assert abs(after.sum() - 1) < 1e-12
    assert after.min() >= 0
    assert (after[prob == 0] == 0).all()
    assert after @ reward >= prob @ reward - 1e-9


@given(rewards_of_six, distributions)
@settings(max_examples=60, deadline=None)
def test_double_sum_holds_for_any_rewards_and_any_probabilities(reward, prob):
    assert np.abs(choice_weight(reward, prob, 2) - luce_2(reward, prob, reward)).max() < 1e-12


@given(rewards_of_six, distributions, distributions, st.floats(0, 100), menu_sizes)
@settings(max_examples=60, deadline=None)
def test_mixed_step_is_the_formula(reward, prob, ref, lam, k):
    expected = ref / (1 + lam) + lam / (1 + lam) * step(prob, reward, k)
    assert np.abs(step(prob, reward, k, lam, ref) - expected).max() < 1e-12


# --- the loop ---


def test_rewards_a_thousand_units_apart_collapse_without_overflow():
    reward, prob = np.array([-1000.0, -500.0, 0.0]), np.array([0.98, 0.01, 0.01])
    with np.errstate(all="raise", under="ignore"):
        path = trajectory(prob, reward, 4, 60)
    assert np.abs(path[-1] - [0, 0, 1]).max() < 1e-12
    assert np.allclose(path[1][2], 1 - 0.99**4, atol=1e-13)  # kept whenever it is on the menu


@pytest.mark.parametrize("k", [2, 16, math.inf])
@pytest.mark.parametrize("best", [3.0, 2000.0])
def test_zero_probability_stays_zero_even_for_the_best_rewarded(k, best):
    reward = np.array([0.0, 1.0, -900.0, best])
    prob = np.array([1 - 1e-10, 0.0, 1e-10, 0.0])
    for p in (prob, prob[[2, 1, 0, 3]]):
        for after in trajectory(p, reward, k, 50):
            assert (after[[1, 3]] == 0).all()
            assert abs(after.sum() - 1) < 1e-12


@pytest.mark.parametrize("k", [2, 16, 256])
def test_ten_thousand_steps_stay_a_distribution(k):
    reward, prob = atoms(10, 5, 0.1)
    prepared = Rewards(reward)
    for _ in range(10_000):
        prob = step(prob, prepared, k)
    assert abs(prob.sum() - 1) < 1e-12
    assert prob.min() >= 0
    assert prob.argmax() == reward.argmax()


def test_trajectory_has_one_law_a_round_and_starts_where_told():
    reward, prob = atoms(11, 6, 2.0)
    path = trajectory(prob, reward, 3, 5)
    assert len(path) == 6
    assert (path[0] == prob).all()
    assert (path[2] == step(step(prob, reward, 3), reward, 3)).all()


def test_lambda_0_gives_the_reference_and_infinity_the_pure_loop():
    reward, prob = atoms(12, 20, 3.0)
    ref = atoms(13, 20, 1.0)[1]
    assert np.abs(step(prob, reward, 4, 0, ref) - ref).max() < 1e-15
    assert (step(prob, reward, 4, math.inf, ref) == step(prob, reward, 4)).all()


def test_more_synthetic_data_moves_further_from_the_reference():
    reward, prob = eight_gaussians()
    distance = [population.kl(step(prob, reward, 4, lam, prob), prob) for lam in (0.1, 0.5, 2.0, 10.0)]
    assert (np.diff(distance) > 0).all()


def test_prepared_rewards_give_the_bits_of_plain_ones():
    reward, prob = atoms(14, 2000, 6.0)
    assert (step(prob, Rewards(reward), 4) == step(prob, reward, 4)).all()


def test_grid_keeps_its_shape():
    reward, prob = eight_gaussians(32)
    square = step(prob.reshape(32, 32), reward.reshape(32, 32), 4)
    assert (square.ravel() == step(prob, reward, 4)).all()


def test_large_pools_do_not_depend_on_the_block_size(monkeypatch):
    reward, prob = atoms(15, 300, 50.0)
    whole = choice_weight(reward, prob, 4)
    monkeypatch.setattr(population, "BLOCK", 5000)
    assert np.abs(choice_weight(reward, prob, 4) - whole).max() < 1e-13


def whole_kernel(prepared, prob, k):
    """H with e^{-s a} and s a e^{-s a} at every node for every level."""
    u = prepared.nodes(k)
    sa = np.exp((prepared.levels[:, None] + u).clip(max=700.0))
    laplace = np.exp(-sa)
    phi = (prepared.pool @ prob) @ laplace
    on_levels = np.where(laplace > 0, sa * laplace, 0.0) @ (population.STEP * k * phi ** (k - 1))
    return (prepared.weights @ on_levels).clip(0.0, k)


@pytest.mark.parametrize("k", [2, 4, 64])
@pytest.mark.parametrize(("n", "span"), [(20_000, 250.0), (900, 600.0), (300, 5000.0)])
def test_nodes_left_out_change_nothing(monkeypatch, n, span, k):
    """Elementwise, down to H of 1e-290: where it is small it comes from the nodes before those of its level."""
    monkeypatch.setattr(population, "BLOCK", 400_000)
    reward, prob = atoms(17, n, span)
    prepared = Rewards(reward)
    evaluated = sum(laplace.size for _, _, laplace, _ in prepared.kernel(k))
    assert evaluated < 0.5 * len(prepared.levels) * len(prepared.nodes(k))
    found, expected = choice_weight(prepared, prob, k), whole_kernel(prepared, prob, k)
    seen = expected > 1e-290
    assert seen.mean() > 0.1
    np.testing.assert_allclose(found[seen], expected[seen], rtol=1e-12)
    assert found[~seen].max(initial=0.0) < 1e-289


def test_a_kernel_that_fits_in_one_block_has_all_nodes():
    """So the loops of the profiles keep their bits."""
    prepared = Rewards(eight_gaussians()[0])
    ((block, nodes, laplace, _),) = prepared.kernel(4)
    assert (block.start, nodes.start) == (0, 0)
    assert laplace.shape == (len(prepared.levels), len(prepared.nodes(4)))


# --- the paper's statements ---


@pytest.mark.parametrize("k", [2, 4, 16, math.inf])
def test_lemma_2_2_holds_at_every_step(k):
    reward, prob = eight_gaussians()
    path = trajectory(prob, Rewards(reward), k, 60)
    value = [population.exp_reward_moments(p, reward) for p in path]
    for p, (now, _), (after, _) in zip(path, value, value[1:], strict=False):
        assert after >= now + population.lemma_2_2_gain(p, reward, k) - 1e-12
    assert value[-1][1] < 0.02 * value[0][1]


def test_lemma_2_2_gain_is_its_formula():
    reward, prob = np.log([1.0, 3.0]), np.array([0.5, 0.5])
    assert population.exp_reward_moments(prob, reward) == pytest.approx((2.0, 1.0))
    assert population.lemma_2_2_gain(prob, reward, 4) == pytest.approx(0.75 / 3)
    assert population.lemma_2_2_gain(prob, reward, math.inf) == pytest.approx(1 / 3)
    assert population.theorem_2_3_gain(prob, reward, 4, 0.5) == pytest.approx(0.5 / 1.5**3 * 0.25)
    assert population.lemma_2_2_gain(np.array([1.0, 0.0]), reward, 4) == 0


def test_gains_of_rewards_beyond_the_largest_float():
    reward, prob = np.array([0.0, 900.0, 5000.0]), np.array([1 - 1e-200, 1e-200, 0.0])
    assert math.log(population.lemma_2_2_gain(prob, reward, math.inf)) == pytest.approx(900 - 200 * math.log(10))
    assert population.lemma_2_2_gain(np.array([0.5, 0.5, 0.0]), reward, 2) == math.inf
    assert population.lemma_2_2_gain(np.array([0.0, 1.0, 0.0]), reward, 2) == 0


def test_gain_of_a_mixed_loop_fades_as_real_data_do():
    reward, prob = np.log([1.0, 3.0]), np.array([0.5, 0.5])
    gains = [population.theorem_2_3_gain(prob, reward, 4, lam) for lam in (1e3, 1e6, 1e120, math.inf)]
    assert gains[:2] == pytest.approx([0.25e-6, 0.25e-12], rel=0.01)
    assert gains[2] < 1e-200
    assert gains[3] == 0
    assert population.theorem_2_3_gain(prob, 800 + reward, 4, math.inf) == 0


@pytest.mark.parametrize("k", [2, 4, 16, math.inf])
def test_theorem_2_1_the_law_nears_its_limit_in_every_round(k):
    reward, prob = eight_gaussians()
    top = population.limit(prob, reward)
    distance = [population.kl(top, p) for p in trajectory(prob, Rewards(reward), k, 60)]
    assert np.diff(distance).max() < 1e-12
    assert distance[-1] < 0.05 * distance[0]


@pytest.mark.parametrize("k", [2, 4, 16])
@pytest.mark.parametrize("lam", [0.03, 0.5, 1.0, 9.0])
def test_theorem_2_3_reward_stays_above_the_references(k, lam):
    reward, prob = eight_gaussians()
    floor = population.exp_reward_moments(prob, reward)[0] + population.theorem_2_3_gain(prob, reward, k, lam)
    for p in trajectory(prob, Rewards(reward), k, 20, lam, prob)[1:]:
        assert population.exp_reward_moments(p, reward)[0] >= floor - 1e-12


@pytest.mark.parametrize(("k", "lam"), [(2, 0.1), (2, 0.5), (2, 0.9), (4, 0.1), (4, 0.3), (16, 0.03)])
def test_theorem_2_4_bounds_the_distance_to_the_reference(k, lam):
    reward, prob = eight_gaussians()
    bound = population.theorem_2_4_bound(k, lam)
    for p in trajectory(prob, Rewards(reward), k, 40, lam, prob):
        assert population.kl(p, prob) <= bound


def test_theorem_2_4_is_nearly_attained_on_a_rare_rewarded_atom():
    reward, prob = np.array([0.0, -700.0]), np.array([1e-6, 1 - 1e-6])
    k, lam = 4, 0.3
    last = trajectory(prob, reward, k, 400, lam, prob)[-1]
    assert math.log(last[0] / prob[0]) == pytest.approx(population.theorem_2_4_bound(k, lam), rel=1e-3)
    assert population.theorem_2_4_bound(k, lam) == pytest.approx(-math.log(0.1))
    assert population.theorem_2_4_bound(4, 1 / 2) == math.inf


def test_limit_keeps_the_top_level_set_of_the_support():
    reward, prob = np.array([1.0, 3.0, 3.0, 8.0]), np.array([0.4, 0.2, 0.4, 0.0])
    assert np.allclose(population.limit(prob, reward), [0, 1 / 3, 2 / 3, 0])


def test_tilt_is_what_rounds_of_infinite_menus_compose_to():
    reward, prob = atoms(16, 30, 3.0)
    path = trajectory(prob, reward, math.inf, 5)
    for t, p in enumerate(path):
        assert np.abs(p - population.tilt(prob, reward, t)).max() < 1e-13


def test_kl_closed_cases():
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.25, 0.5])
    assert population.kl(p, q) == pytest.approx(math.log(2))
    assert population.kl(q, p) == math.inf
    assert population.kl(p, p) == 0


# --- refusals ---

GOOD = {"prob": np.array([0.5, 0.5]), "reward": np.array([0.0, 1.0]), "k": 2}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"k": 0}, "k = 0"),
        ({"k": 2.5}, "k = 2.5"),
        ({"k": True}, "k = True"),
        ({"k": math.nan}, "k = nan"),
        ({"reward": np.array([0.0, math.nan])}, "reward = '1 of 2 not finite'"),
        ({"reward": np.array([0.0, math.inf])}, "reward = '1 of 2 not finite'"),
        ({"reward": np.array([])}, "reward.size = 0"),
        ({"reward": np.array([0.0, 1e8])}, "span of reward = 100000000.0: must be at most 10000000"),
        ({"reward": np.array([-1e308, 1e308])}, "span of reward = inf: must be at most 10000000"),
        ({"reward": np.zeros(3)}, "prob.shape"),
        ({"prob": np.array([0.5, 0.4])}, "sum of prob"),
        ({"prob": np.array([0.5, math.nan])}, "sum of prob"),
        ({"prob": np.array([1.5, -0.5])}, "least prob = -0.5"),
        ({"lam": -1.0, "prob_ref": GOOD["prob"]}, "lam = -1.0"),
        ({"lam": math.nan, "prob_ref": GOOD["prob"]}, "lam = nan"),
        ({"lam": 1.0}, "prob_ref = None"),
        ({"lam": 1.0, "prob_ref": np.array([0.5, 0.2])}, "sum of prob_ref"),
        ({"lam": 1.0, "prob_ref": np.ones(3) / 3}, "prob_ref.shape"),
    ],
)
def test_step_refuses_bad_input_by_name(change, named):
    with pytest.raises(BadInput, match=named.replace(".", r"\.")):
        step(**(GOOD | change))


@pytest.mark.parametrize("lam", [-0.5, -math.inf, math.nan])
def test_mixing_refuses_a_negative_share_by_name(lam):
    with pytest.raises(BadInput, match=f"lam = {lam}: must be >= 0"):
        population.mix(GOOD["prob"], lam, GOOD["prob"])


@pytest.mark.parametrize("rounds", [-1, 1.5])
def test_trajectory_refuses_bad_round_counts(rounds):
    with pytest.raises(BadInput, match="rounds"):
        trajectory(GOOD["prob"], GOOD["reward"], 2, rounds)


# --- speed: limits are several times what an ordinary core needs ---


def median_seconds(action, times=5):
    action()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        action()
        taken.append(time.perf_counter() - began)
    return sorted(taken)[times // 2]


def test_a_step_on_a_512_grid_is_fast():
    reward, prob = eight_gaussians(512)
    prepared = Rewards(reward)
    seconds = median_seconds(lambda: step(prob, prepared, 4))
    print(f"512 x 512 grid: {1000 * seconds:.1f} ms a step")
    assert seconds < 0.1


def test_a_step_with_a_steep_reward_is_fast():
    """Slope 100 on the paper's toy: rewards over 570 units. With all nodes for all levels a step took 2 s."""
    reward, prob = eight_gaussians(128, gamma=100.0)
    prepared = Rewards(reward)
    seconds = median_seconds(lambda: step(prob, prepared, 4))
    print(f"128 x 128 grid, slope 100: {1000 * seconds:.1f} ms a step")
    assert seconds < 0.1


def test_a_pool_of_100000_is_fast():
    reward, prob = np.random.default_rng(0).normal(size=100_000), np.full(100_000, 1e-5)
    seconds = median_seconds(lambda: step(prob, reward, 4))
    print(f"pool of 100000: {1000 * seconds:.1f} ms with set-up")
    assert seconds < 0.8
