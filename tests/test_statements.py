"""The tables behind notebook 01, on small grids, against closed forms and their own definitions."""

import math

import numpy as np
import pytest
import torch

from lib import population, statements, toy

SCENES = statements.scenes(48, 10.0)


def test_scene_is_the_toy_with_its_reward():
    scene = SCENES["gaussians"]
    inside = np.linalg.norm(scene.cells.points - np.array(scene.data.centre), axis=1) <= scene.data.r_min
    np.testing.assert_array_equal(scene.reward == 0, inside)
    assert scene.square(scene.reward).shape == (48, 48)
    assert len(scene.path(2, 3)) == 4


def test_luce_frequencies_follow_the_law():
    table = statements.luce(torch.tensor([0.0, -0.5, -1.0]), 1500, seed=3)
    weight = np.exp([0.0, -0.5, -1.0])
    np.testing.assert_allclose(table["law"], weight / weight.sum())
    assert table["kept"].sum() == pytest.approx(1.0)
    assert ((table["kept"] - table["law"]).abs() < 4.5 * table["error"]).all()


def test_heat_table_keeps_all_mass():
    sums = statements.heat_table(SCENES, squares=16).groupby("data")[["initial", "limit"]].sum()
    np.testing.assert_allclose(sums, 1.0)
    assert len(statements.heat_table(SCENES, squares=16)) == 2 * 16**2


def test_round_table_starts_equal_and_collapses():
    scene = SCENES["gaussians"]
    table = statements.round_table(scene, {"pure": scene.path(4, 20)}, (0, 20)).set_index("round")
    np.testing.assert_allclose(table.loc[0].filter(like="share_").astype(float), 1 / 8, atol=1e-2)
    assert table.loc[20, f"share_{scene.data.rewarded}"] > 0.999
    assert table.loc[20, "top_mass"] > 0.95


def test_lemma_2_1_distance_falls_like_one_over_k():
    table = statements.lemma_2_1(SCENES, (256, 1024, 4096), rounds=(1,))
    for _, line in table.groupby("data"):
        assert statements.tail_slope(line["k"], line["distance"]) == pytest.approx(-1, abs=0.05)


def test_pure_loop_columns_match_their_definitions():
    table = statements.pure_loop(SCENES, (3,), 4)
    scene, line = SCENES["moons"], table[table["data"] == "moons"].reset_index()
    path = scene.path(3, 4)
    assert np.isnan(line["gain"][0])
    assert np.isnan(line["bound"][0])
    assert line["gain"][2] == pytest.approx(line["mean"][2] - line["mean"][1])
    assert line["bound"][2] == pytest.approx(population.lemma_2_2_gain(path[1], scene.reward, 3))
    # KL(p* || p) = -log p(A), since the loop keeps the shape of p_0 on A
    assert line["kl"][4] == pytest.approx(-math.log(path[4][scene.reward == 0].sum()), rel=1e-9)


def test_shells_hold_what_a_fine_grid_holds():
    for scene in statements.scenes(300, 10.0).values():
        beyond, mass = statements.shells(scene.data)
        assert mass.sum() == pytest.approx(1.0)
        assert mass[0] == pytest.approx(scene.cells.prob[scene.reward == 0].sum(), rel=0.01)
        mean = population.exp_reward_moments(mass, -10.0 * beyond)[0]
        assert mean == pytest.approx(population.exp_reward_moments(scene.cells.prob, scene.reward)[0], rel=0.005)


def test_the_collapse_ends_at_the_constant_of_its_rim():
    table = statements.collapse(10.0, (2, 16), 200)
    assert sorted(table["round"].unique()) == list(range(201))
    last = table[table["round"] == 200]
    np.testing.assert_allclose(last["rescaled"], last["limit"], rtol=0.03)
    gaussians = last[last["data"] == "gaussians"]["limit"].iloc[0]
    s, r = toy.MODE_STD, 0.5  # the rewarded mode alone: a Rayleigh law, whose rim and mass are known
    alone = r / s**2 * math.exp(-(r**2) / (2 * s**2)) / (10 * (1 - math.exp(-(r**2) / (2 * s**2))))
    assert gaussians == pytest.approx(alone, rel=0.2)  # the neighbouring modes reach the rim a little


def test_mixed_loop_starts_after_one_round_and_carries_both_bounds():
    table = statements.mixed_loop(SCENES, [(2, 0.5), (4, 1.0)], 3)
    assert sorted(table["round"].unique()) == [1, 2, 3]
    bounds = table.groupby("k")["kl_bound"].first()
    assert (bounds[2], bounds[4]) == (pytest.approx(math.log(2)), math.inf)
    assert (table["gain"] >= table["gain_bound"]).all()


def test_threshold_matches_the_closed_form_for_two():
    table = statements.threshold((2,), (0.5, 2.0), shares=(1e-9,)).set_index("pressure")
    assert table.loc[2.0, "reached"] == pytest.approx(1 - 1 / 2, rel=1e-6)  # p = 1 - 1/lambda as the share -> 0
    assert table.loc[0.5, "ratio"] == pytest.approx(1 / (1 - 0.5), rel=1e-6)
    np.testing.assert_allclose(table["reached"], table["solved"], rtol=1e-6)


def test_threshold_agrees_with_the_scalar_equation_for_more():
    table = statements.threshold((4, 8), (0.8, 1.3), shares=(1e-3, 1e-6))
    np.testing.assert_allclose(table["reached"], table["solved"], rtol=1e-6)


def test_tail_slope_of_a_power():
    x = np.array([3.0, 5.0, 11.0])
    assert statements.tail_slope(x, 7 * x**-1.5) == pytest.approx(-1.5)


def test_the_distance_of_a_mixed_loop_is_from_its_law_to_the_reference():
    scene = SCENES["moons"]
    table = statements.mixed_loop({"moons": scene}, [(4, 1.0)], 2)
    ref, path = scene.cells.prob, scene.path(4, 2, 1.0)
    assert table["kl"].tolist() == [population.kl(prob, ref) for prob in path[1:]]
    assert table["kl"].iloc[-1] != pytest.approx(population.kl(ref, path[2]), rel=0.01)
