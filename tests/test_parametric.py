"""Theorem 2.2's constants and loop against closed forms, finite differences and the bound itself."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lib import parametric
from lib.checks import BadInput
from lib.parametric import GAUSSIAN, LOGISTIC, NODES, SPACING

BUMPS = parametric.mixture((0.0, 2.5), (0.8, 0.2))
FAMILIES = pytest.mark.parametrize("family", [LOGISTIC, GAUSSIAN], ids=lambda f: f.name)


def logistic_of_scale(s: float) -> np.ndarray:
    density = np.exp(LOGISTIC.log_density(NODES / s))
    return density / density.sum()


@FAMILIES
def test_score_and_curvature_are_derivatives_in_theta(family):
    x, step = np.linspace(-8, 8, 401), 1e-4
    log_p = [family.log_density(x - theta) for theta in (-step, 0.0, step)]
    np.testing.assert_allclose(family.score(x), (log_p[2] - log_p[0]) / (2 * step), atol=1e-7)
    np.testing.assert_allclose(family.curvature(x), (log_p[2] - 2 * log_p[1] + log_p[0]) / step**2, atol=1e-6)


@FAMILIES
def test_lipschitz_constant_is_the_largest_slope_of_the_curvature(family):
    x = np.linspace(-10, 10, 20_001)
    slope = np.abs(np.diff(family.curvature(x)) / np.diff(x)).max()
    assert slope <= family.lipschitz + 1e-12
    assert slope == pytest.approx(family.lipschitz, abs=1e-6)


@FAMILIES
@pytest.mark.parametrize("theta", [-3.3, 0.0, 2.0])
def test_fit_recovers_the_parameter_of_a_member(family, theta):
    assert parametric.fit(family, family.law(theta)) == pytest.approx(theta, abs=1e-12)


def test_gaussian_fit_is_the_mean():
    assert parametric.fit(GAUSSIAN, BUMPS) == pytest.approx(0.5, abs=1e-12)


def test_wasserstein_closed_forms():
    shift = parametric.wasserstein(LOGISTIC.law(0.0), LOGISTIC.law(0.7))
    assert shift == pytest.approx(0.7, abs=1e-9)
    # Scaling by s moves each quantile z to s z: |s - 1| E|Z|, and E|Z| = 2 log 2 for the logistic.
    scale = parametric.wasserstein(LOGISTIC.law(0.0), logistic_of_scale(1.3))
    assert scale == pytest.approx(0.3 * 2 * math.log(2), abs=SPACING**2)


def test_logistic_constants_on_its_own_law():
    known = parametric.constants(LOGISTIC, LOGISTIC.law(0.3))
    assert known.theta == pytest.approx(0.3, abs=1e-12)
    assert known.alpha == pytest.approx(1 / 3, abs=1e-12)  # Fisher information of a logistic's location
    assert known.fisher == pytest.approx(1 / 3, abs=1e-12)
    assert known.eps == pytest.approx(0.0, abs=1e-12)
    assert known.lipschitz == pytest.approx(1 / (3 * math.sqrt(3)))


def test_gaussian_constants_and_rate():
    known = parametric.constants(GAUSSIAN, BUMPS)
    assert (known.alpha, known.lipschitz, known.lam_limit) == (pytest.approx(1.0, abs=1e-12), 0.0, math.inf)
    assert known.rate(2.0) == pytest.approx(2 / 3)
    assert known.local_rate(2.0) == pytest.approx(2 / 3)


def test_kl_of_shifted_gaussians_is_half_the_squared_distance():
    for gap in (1.5, 1e-2, 1e-5):
        assert parametric.kl(GAUSSIAN, 0.4, 0.4 + gap) == pytest.approx(gap**2 / 2, rel=1e-6)


@pytest.mark.parametrize(("theta", "other"), [(0.0, 15.0), (0.0, -40.0), (-20.0, 25.0), (0.0, 200.0)])
def test_kl_of_gaussians_far_apart_is_half_the_squared_distance_too(theta, other):
    assert parametric.kl(GAUSSIAN, theta, other) == pytest.approx((other - theta) ** 2 / 2, rel=1e-12)


@FAMILIES
def test_the_two_forms_of_kl_meet(family):
    """They agree where one takes over from the other."""
    for gap in np.linspace(1.0, 4.0, 31):
        d = family.log_density(NODES - gap) - family.log_density(NODES)
        whole = float(family.law(0.0) @ (np.expm1(d) - d))
        assert parametric.kl(family, 0.0, gap) == pytest.approx(whole, rel=1e-13)


def test_gaussian_loop_is_solved_by_hand():
    table = parametric.loop(GAUSSIAN, BUMPS, lam=3.0, theta_0=2.0, rounds=8)
    by_hand = 0.5 + 1.5 * (3 / 4) ** table["round"]  # theta - mean shrinks by lam / (1 + lam)
    np.testing.assert_allclose(table["theta"], by_hand, atol=1e-10)
    np.testing.assert_allclose(table["contraction"][1:], (3 / 4) ** 2, rtol=1e-8)


def test_update_is_the_argmax_of_the_objective():
    lam, theta_0 = 1.5, -1.0
    theta_1 = parametric.loop(LOGISTIC, BUMPS, lam, theta_0, rounds=1)["theta"][1]
    weights = BUMPS + lam * LOGISTIC.law(theta_0)
    near = [
        float(weights @ LOGISTIC.log_density(NODES - theta)) for theta in (theta_1 - 1e-3, theta_1, theta_1 + 1e-3)
    ]
    assert near[1] > max(near[0], near[2])


def test_fisher_is_within_l_eps_of_alpha_and_orders_the_rates():
    known = parametric.constants(LOGISTIC, BUMPS)
    assert abs(known.fisher - known.alpha) <= known.lipschitz * known.eps
    for lam in (0.1, 1.0, 10.0):
        assert known.local_rate(lam) < min(1.0, known.rate(lam))


def test_rate_passes_one_exactly_where_the_condition_ends():
    known = parametric.constants(LOGISTIC, BUMPS)
    assert known.rate(known.lam_limit) == pytest.approx(1.0)
    assert known.rate(0.99 * known.lam_limit) < 1 < known.rate(1.01 * known.lam_limit)
    assert known.rate(1e9) > 1


@settings(max_examples=10, deadline=None)
@given(st.floats(0.1, 2.0), st.floats(-2.5, 3.0), st.floats(0.1, 0.45), st.floats(1.0, 3.0))
def test_near_the_best_fit_the_bound_is_never_violated(lam, theta_0, weight, far):
    real = parametric.mixture((0.0, far), (1 - weight, weight))
    last = parametric.theorem_2_2((LOGISTIC,), real, (lam,), theta_0, rounds=40).iloc[-1]
    assume(last["covered"] and last["round"] > 0)
    assert last["contraction"] <= last["bound"]


def test_far_from_the_best_fit_a_round_may_be_slower_than_the_local_bound():
    real = parametric.mixture((0.0, 0.5), (0.75, 0.25))  # almost a member of the family: rho leaves little room
    table = parametric.theorem_2_2((LOGISTIC,), real, (1.0,), theta_0=2.0, rounds=6)
    assert table["contraction"][1] > table["bound"][1]
    assert table["contraction"][6] < table["bound"][6]


def test_late_contraction_is_the_local_one():
    table = parametric.theorem_2_2((LOGISTIC,), BUMPS, (0.5, 4.0), theta_0=1.0, rounds=40)
    last = table.groupby("lam").last()
    np.testing.assert_allclose(last["contraction"], last["local"], rtol=1e-3)
    assert list(last["covered"]) == [True, False]


@pytest.mark.parametrize("lam", [0.0, -1.0, math.inf, math.nan])
def test_loop_refuses_lambda_out_of_range(lam):
    with pytest.raises(BadInput, match="lam"):
        parametric.loop(LOGISTIC, BUMPS, lam, 0.0, 1)
