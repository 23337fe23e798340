import math

import numpy as np
import pytest
import torch

from lib import toy
from lib.checks import BadInput

BOTH = pytest.mark.parametrize("data", [toy.gaussians(), toy.moons()], ids=["gaussians", "moons"])


@BOTH
def test_density_integrates_to_one_on_the_grid(data):
    cells = toy.grid(data, 200)
    area = (2 * cells.extent / cells.size) ** 2
    assert data.density(cells.points).sum() * area == pytest.approx(1, abs=1e-5)
    assert cells.prob.sum() == pytest.approx(1, abs=1e-12)
    assert cells.prob.min() >= 0


@BOTH
def test_samples_follow_the_density(data):
    n, cells = 100_000, toy.grid(data, 192)
    x = data.sample(n, seed=1).numpy()
    assert x.dtype == np.float32
    edges = np.linspace(-cells.extent, cells.extent, 13)
    counts = np.histogram2d(x[:, 1], x[:, 0], bins=[edges, edges])[0] / n
    expected = cells.prob.reshape(12, 16, 12, 16).sum(axis=(1, 3))  # y outermost
    assert np.abs(counts - expected).max() < 4.5 * math.sqrt(expected.max() / n)


@BOTH
def test_groups_are_equally_large(data):
    cells = toy.grid(data, 200)
    exact = np.bincount(cells.labels, cells.prob)
    sampled = np.bincount(data.label(data.sample(50_000, seed=2))) / 50_000
    assert len(exact) == data.n_groups
    assert np.abs(exact - 1 / data.n_groups).max() < 0.02
    assert np.abs(sampled - exact).max() < 0.01


def test_modes_lie_on_the_circle_in_the_order_of_their_labels():
    data = toy.gaussians()
    x = data.sample(80_000, seed=3)
    label = data.label(x)
    for i in range(8):
        mean, angle = x[label == i].mean(0), 2 * math.pi * i / 8
        assert mean.tolist() == pytest.approx([2 * math.cos(angle), 2 * math.sin(angle)], abs=0.02)
        assert x[label == i].std(0).tolist() == pytest.approx([0.2, 0.2], abs=0.01)


def test_moons_groups_are_three_arcs_of_each_moon():
    data = toy.moons()
    tips = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, 0.5], [1.0, -0.5], [2.0, 0.5]])
    x = toy.MOON_SCALE * (tips - torch.tensor([0.5, 0.25]))
    assert data.label(x).tolist() == [0, 1, 2, 3, 4, 5]


@BOTH
def test_every_anchor_belongs_to_its_own_group(data):
    assert (data.label(torch.as_tensor(data.anchors)).numpy() == data.group).all()


@BOTH
def test_labels_do_not_depend_on_how_many_points_are_labelled_at_once(data):
    x = data.sample(9000, seed=4)
    assert torch.equal(data.label(x)[8990:], data.label(x[8990:]))


def test_the_rewarded_groups_are_the_mode_at_45_degrees_and_the_top_of_the_upper_moon():
    gaussians, moons = toy.gaussians(), toy.moons()
    assert gaussians.rewarded == 1
    assert gaussians.centre == pytest.approx((math.sqrt(2), math.sqrt(2)))
    assert moons.rewarded == 1
    assert moons.anchors[np.argmax(moons.anchors[:, 1])] == pytest.approx(moons.centre, abs=0.02)


@BOTH
def test_the_seed_decides_the_samples(data):
    assert torch.equal(data.sample(100, seed=5), data.sample(100, seed=5))
    assert not torch.equal(data.sample(100, seed=5), data.sample(100, seed=6))


def test_grid_is_row_major_with_y_outermost():
    cells = toy.grid(toy.moons(), 50)
    assert cells.points[1] - cells.points[0] == pytest.approx([6 / 50, 0])
    assert cells.points[50] - cells.points[0] == pytest.approx([0, 6 / 50])


@pytest.mark.parametrize("size", [7, 64.0])
def test_grid_refuses_bad_sizes(size):
    with pytest.raises(BadInput, match="size"):
        toy.grid(toy.moons(), size)
