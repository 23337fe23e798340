import math

import pytest
import torch

from lib import rewards
from lib.checks import BadInput


def test_distance_is_flat_inside_and_linear_outside():
    x = torch.tensor([[1.0, 1.0], [1.3, 1.0], [1.5, 1.0], [1.0, 3.5], [1.0, -1.5]])
    expected = torch.tensor([0.0, 0.0, 0.0, -20.0, -20.0])
    assert torch.allclose(rewards.distance(x, (1.0, 1.0), 10.0, 0.5), expected)


def test_distance_without_slope_is_zero_everywhere():
    x = torch.randn(20, 2)
    assert (rewards.distance(x, (0.0, 0.0), 0.0, 0.5) == 0).all()


def test_class_probability_is_the_scaled_column():
    q = torch.tensor([[0.2, 0.8], [0.9, 0.1]])
    assert torch.allclose(rewards.class_probability(q, 0, 5.0), torch.tensor([1.0, 4.5]))
    assert torch.allclose(rewards.class_probability(q, 1, 5.0), torch.tensor([4.0, 0.5]))


def test_confidence_is_the_scaled_largest_probability_of_each_row():
    q = torch.tensor([[0.2, 0.8], [0.9, 0.1], [0.5, 0.5]])
    assert torch.allclose(rewards.confidence(q, 10.0), torch.tensor([8.0, 9.0, 5.0]))


Q, X = torch.full((3, 2), 0.5), torch.zeros(3, 2)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: rewards.distance(X, (0.0, 0.0), -1.0, 0.5), "gamma"),
        (lambda: rewards.distance(X, (0.0, 0.0), math.inf, 0.5), "gamma"),
        (lambda: rewards.distance(X, (0.0, 0.0), 1.0, -0.5), "r_min"),
        (lambda: rewards.distance(X, (0.0, 0.0), 1.0, math.nan), "r_min"),
        (lambda: rewards.distance(X, (0.0,), 1.0, 0.5), "centre"),
        (lambda: rewards.class_probability(Q, 2, 1.0), "class_index"),
        (lambda: rewards.class_probability(Q, -1, 1.0), "class_index"),
        (lambda: rewards.class_probability(Q, 0, math.nan), "gamma"),
        (lambda: rewards.confidence(Q, -5.0), "gamma"),
    ],
)
def test_rewards_refuse_parameters_out_of_range(call, name):
    with pytest.raises(BadInput, match=name):
        call()
