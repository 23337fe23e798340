import math

import numpy as np
import pytest

from lib import metrics
from lib.checks import BadInput


def test_shares_count_labels_and_add_up_to_one():
    assert np.allclose(metrics.shares([0, 2, 2, 2], 4), [0.25, 0, 0.75, 0])


def test_shares_of_weighted_labels_add_weights():
    assert np.allclose(metrics.shares([0, 2, 2], 3, np.array([0.5, 0.25, 0.25])), [0.5, 0, 0.5])
    assert np.allclose(metrics.shares([0, 1], 2, np.array([3.0, 1.0])), [0.75, 0.25])


@pytest.mark.parametrize("labels", [[0, 4], [-1, 2], []])
def test_shares_refuse_labels_outside_the_groups(labels):
    with pytest.raises(BadInput, match="labels"):
        metrics.shares(np.array(labels, dtype=int), 4)


def test_a_group_is_live_from_one_percent_on():
    assert metrics.live(np.array([0.01, 0.0099, 0.9801])) == 2


def test_total_variation_closed_cases():
    assert metrics.total_variation([1, 0], [0, 1]) == 1
    assert metrics.total_variation([0.5, 0.5], [0.5, 0.5]) == 0
    assert metrics.total_variation([0.75, 0.25], [0.5, 0.5]) == 0.25


def test_entropy_closed_cases():
    assert metrics.entropy(np.full(8, 1 / 8)) == pytest.approx(math.log(8))
    assert metrics.entropy([0, 1, 0]) == 0
    assert metrics.entropy([0.5, 0.5, 0]) == pytest.approx(math.log(2))


def test_spread_is_the_standard_deviation_a_coordinate():
    x = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]) + 5
    assert metrics.spread(x) == pytest.approx(math.sqrt(0.5))
    assert metrics.spread(x[:2], np.array([0.75, 0.25])) == pytest.approx(math.sqrt(0.75 / 2))
    draws = np.random.default_rng(0).normal(scale=0.2, size=(100_000, 2))
    assert metrics.spread(draws) == pytest.approx(0.2, rel=0.01)


def test_spread_of_nothing_is_nan():
    assert math.isnan(metrics.spread(np.zeros((0, 2))))
    assert math.isnan(metrics.spread(np.zeros((3, 2)), np.zeros(3)))


def test_reward_moments_closed_case():
    moments = metrics.reward_moments(np.log([1.0, 3.0]))
    assert moments == pytest.approx({"mean_reward": math.log(3) / 2, "mean_exp_reward": 2, "var_exp_reward": 1})
    weighted = metrics.reward_moments(np.log([1.0, 3.0]), np.array([0.75, 0.25]))
    assert weighted == pytest.approx(
        {"mean_reward": math.log(3) / 4, "mean_exp_reward": 1.5, "var_exp_reward": 0.75}
    )


def test_weights_equal_repetition():
    labels, reward, x = np.array([0, 1, 1]), np.array([0.0, -1.0, -3.0]), np.array([[0.0, 1], [2, 3], [4, 9]])
    times = np.array([3, 1, 2])
    repeated = np.repeat(np.arange(3), times)
    assert metrics.group_columns(labels, 2, times) == metrics.group_columns(labels[repeated], 2)
    assert metrics.reward_moments(reward, times) == pytest.approx(metrics.reward_moments(reward[repeated]))
    assert metrics.spread(x, times) == pytest.approx(metrics.spread(x[repeated]))


def test_group_columns_name_every_group():
    columns = metrics.group_columns(np.array([1, 1, 0]), 3)
    assert list(columns) == ["share_0", "share_1", "share_2", "entropy", "live_groups"]
    assert columns["share_1"] == pytest.approx(2 / 3)
    assert columns["live_groups"] == 2
