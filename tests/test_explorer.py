"""The explorer: its numbers are the exact dynamics, its pictures change when its sliders move, nothing is live
where nobody can use it."""

import io
import math
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest

from lib import animation, controls, explorer, figures, population, stage, taste
from lib.checks import BadInput

SMALL = {"size": 32, "rounds": 4}


def pixels(picture: bytes) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)


@pytest.mark.parametrize("setting", explorer.STORIES.values(), ids=explorer.STORIES)
def test_a_path_is_the_exact_trajectory(setting):
    path = explorer.path(setting, **SMALL)
    law = explorer.law(setting.data, 32).prob
    exact = population.trajectory(law, path.reward.ravel(), setting.k, 4, setting.lam, law)
    np.testing.assert_array_equal(path.densities.reshape(5, -1), exact)
    assert path.curves["mean"].iloc[-1] == population.exp_reward_moments(exact[-1], path.reward.ravel())[0]
    assert path.curves["kl_start"].iloc[0] == 0


def test_the_bound_is_theorem_2_4s_where_it_speaks():
    covered = explorer.path(explorer.Setting(k=4, lam=0.25), **SMALL)
    assert covered.bound == pytest.approx(-math.log(0.25))
    assert (covered.curves["kl_start"] <= covered.bound).all()
    assert explorer.path(explorer.Setting(k=4, lam=0.5), **SMALL).bound == math.inf
    assert explorer.path(explorer.Setting(k=math.inf, lam=0.1), **SMALL).bound == math.inf


def test_menus_of_one_and_no_synthetic_data_stand_still():
    for still in (explorer.Setting(k=1), explorer.Setting(lam=0.0)):
        path = explorer.path(still, **SMALL)
        np.testing.assert_allclose(path.densities[-1], path.densities[0], rtol=1e-12)


@pytest.mark.parametrize("wrong", [{"data": "rings"}, {"lam": -1.0}, {"k": 0}, {"gamma": -1.0}, {"r_min": -0.1}])
def test_nonsense_is_refused_by_name(wrong):
    with pytest.raises(BadInput, match=next(iter(wrong))):
        explorer.path(explorer.Setting(**wrong), **SMALL)


def test_the_picture_follows_the_path_and_comes_back():
    first, second = explorer.path(explorer.Setting()), explorer.path(explorer.Setting("moons"))
    picture = stage.LoopStage(first)
    a, b, c = (pixels(picture.png(path, t)) for path, t in ((first, 0), (second, 3), (first, 0)))
    assert np.count_nonzero(a != b) > 1000
    np.testing.assert_array_equal(a, c)  # nothing of the second is left on the first


def test_the_picture_names_what_it_shows_and_no_bound_that_is_not_drawn():
    free, bounded = explorer.path(explorer.Setting(lam=1.0)), explorer.path(explorer.Setting(lam=0.25))
    picture = stage.LoopStage(free)
    seen = {}
    for path, t in ((free, 3), (bounded, 2)):
        seen[t] = pixels(picture.png(path, t))
        assert picture.head.get_text() == f"{figures.setting(4, path.setting.lam, 10.0)}, round {t}"
    for part in picture.named:
        across, up = part.get_window_extent().get_points().T.astype(int)
        box = slice(len(seen[2]) - up[1] - 2, len(seen[2]) - up[0] + 2), slice(*across)
        assert seen[2][box].min() < 100
        assert seen[3][box].min() == 255
    lies = [drawn.reward.axes.get_position().bounds for drawn in (picture, stage.LoopStage(bounded))]
    assert lies[0] == lies[1]  # a pixel is one point at every setting
    curator = taste.Curator()
    menu = stage.MenuStage(curator)
    curator.click(0)
    curator.take_round()
    menu.png(curator)
    assert menu.head.get_text() == f"{figures.setting(4, math.inf)}, 1 click, round 1"


def test_every_slider_redraws(monkeypatch):
    front = controls.LoopExplorer()
    moves = {"k": 2, "lam": math.inf, "gamma": 3.0, "r_min": 0.1, "x1": -1.0, "x2": 0.5, "t": 9, "data": "moons"}
    for name, value in moves.items():
        before = front.image.value
        getattr(front, name).value = value
        assert front.image.value != before, name
    assert front.setting == replace(explorer.at_home("moons"), k=2, lam=math.inf, gamma=3.0)
    assert len(front.milliseconds) == 1 + len(moves)


def test_a_story_sets_all_sliders_with_one_redraw_and_can_be_chosen_again():
    front = controls.LoopExplorer()
    front.story.value = "where data are rare"
    assert front.setting == explorer.STORIES["where data are rare"]
    assert len(front.milliseconds) == 2
    front.gamma.value = 1.0
    assert front.story.value is None
    front.story.value = "where data are rare"
    assert front.setting == explorer.STORIES["where data are rare"]


def test_clicks_and_rounds_reach_the_curator():
    front = controls.TasteExplorer()
    before = front.image.value
    front.likes[2].click()
    assert front.curator.chosen == [2]
    assert front.image.value != before
    front.go.click()
    assert len(front.curator.path) == 2
    assert "1 click, round 1" in front.says.value
    front.anew.click()
    assert (front.curator.chosen, len(front.curator.path)) == ([], 1)


def dom_event(front, kind: str, x: float, y: float, button: int = 0) -> None:
    """What the browser sends when the mouse does something on a front's picture."""
    front.mouse._handle_mouse_msg(None, {"event": kind, "dataX": x, "dataY": y, "button": button}, [])


def pixel(axis, point: tuple[float, float], picture: bytes) -> tuple[float, float]:
    """Where a point of an axis lies on a picture, from its upper left corner."""
    across, up = axis.transData.transform(point)
    return float(across), pixels(picture).shape[0] - float(up)


@pytest.mark.parametrize("centre", [(0.0, 0.0), (1.5, -2.0), (-2.5, 0.75)])
def test_a_pixel_of_the_picture_is_the_point_drawn_there(centre):
    path = explorer.path(explorer.Setting(gamma=0.0, r_min=0.2, centre=centre))
    loop = stage.LoopStage(path)
    axis = loop.reward.axes
    level = pixels(loop.png(path, 0)).sum(axis=2)  # without a slope all of the reward is yellow but for the ring
    dark = [loop.place(axis, x, y) for y, x in np.argwhere(level < 100) if loop.panel(x, y) is axis]
    ring = [point for point in dark if max(map(abs, point)) < 2.9]  # and the frame
    assert np.mean(ring, axis=0) == pytest.approx(centre, abs=0.06)


def test_beside_the_two_panels_there_is_nothing_to_hold():
    path = explorer.path(explorer.Setting())
    loop = stage.LoopStage(path)
    picture = loop.png(path, 0)
    for axis in (loop.reward.axes, loop.density.axes):
        assert loop.panel(*pixel(axis, (2.9, -2.9), picture)) is axis
        assert loop.panel(*pixel(axis, (3.1, 0.0), picture)) is None
        assert loop.panel(*pixel(axis, (0.0, -3.1), picture)) is None
    assert loop.panel(*pixel(loop.mean.axes, (5.0, 0.5), picture)) is None


def test_a_dragged_centre_moves_both_sliders_and_redraws_once_a_move():
    front = controls.LoopExplorer()
    reward, density = front._stage.reward.axes, front._stage.density.axes
    at = [pixel(reward, point, front.image.value) for point in ((0.51, 0.49), (-1.02, 0.98), (9.0, -9.0))]
    dom_event(front, "mousedown", *at[0])
    assert (front.setting.centre, front.story.value) == ((0.5, 0.5), None)
    front.mouse.xy = list(at[1])
    assert front.setting.centre == (-1.0, 1.0)
    front.mouse.xy = list(at[2])  # past the edge: as far as the sliders go
    assert (front.x1.value, front.x2.value) == (2.5, -2.5)
    dom_event(front, "mouseup", *pixel(reward, (-1.0, 1.0), front.image.value))
    assert len(front.milliseconds) == 1 + 4
    before = front.image.value
    front.mouse.xy = list(at[0])  # nothing is held any more
    front.mouse.xy = []
    dom_event(front, "mousedown", *at[0], button=2)
    dom_event(front, "mousedown", *pixel(density, (3.2, 0.0), before))
    assert (front.image.value, len(front.milliseconds)) == (before, 5)
    dom_event(front, "mousedown", *pixel(density, (0.0, 0.0), before))
    dom_event(front, "mouseleave", *pixel(density, (0.0, 4.0), before))
    front.mouse.xy = list(at[1])
    assert front.setting.centre == (0.0, 2.5)


def test_a_letter_in_the_picture_is_as_good_as_its_button():
    front, twin = controls.TasteExplorer(), controls.TasteExplorer()
    letters = front._stage.letters
    axis = letters[0].axes
    for place in (3, 0, 2):
        dom_event(front, "click", *pixel(axis, letters[place].get_position(), front.image.value))
        twin.likes[place].click()
    assert front.curator.chosen == twin.curator.chosen == [3, 0, 2]
    assert front.image.value == twin.image.value
    dom_event(front, "click", *pixel(axis, (-2.9, 2.9), front.image.value))  # no letter here
    dom_event(front, "click", 5.0, 5.0)
    assert front.curator.chosen == [3, 0, 2]


def test_letters_of_a_crowded_menu_part_and_point_to_their_places():
    curator = taste.Curator()
    menu = np.array([100, 100, 101, 5000])  # three samples in one spot
    curator.menu = lambda: menu
    shown = stage.MenuStage(curator)
    shown.png(curator)
    places = np.array([letter.get_position() for letter in shown.letters])
    apart = np.linalg.norm(places[:, None] - places[None], axis=2) + 9 * np.eye(4)
    assert apart.min() > 0.99 * stage.GAP
    np.testing.assert_allclose(places[3], curator.cells.points[5000], atol=0.01)  # alone: stays
    np.testing.assert_allclose(shown.leaders.get_xydata()[::3], curator.cells.points[menu])


@pytest.mark.parametrize("front", [controls.LoopExplorer, controls.TasteExplorer])
def test_without_a_front_end_there_is_a_picture_and_no_widget(front, monkeypatch):
    live = front().image.value
    monkeypatch.setenv(controls.HEADLESS, "1")
    monkeypatch.setattr(controls.ui, "VBox", None)
    shown = controls.show(front)
    assert shown.data == live
    assert shown.alt
    assert shown.width == pixels(live).shape[1]


def test_the_animation_shows_every_round_in_little_space():
    paths = {"curated": explorer.path(explorer.Setting()), "mixed": explorer.path(explorer.Setting(lam=1.0))}
    fields = {arm: list(path.densities[:4]) for arm, path in paths.items()}
    gif = animation.loop_gif(fields, (1.4, 1.4), 0.5, 3.0)
    assert len(gif) < 200_000
    with PIL.Image.open(io.BytesIO(gif)) as picture:
        assert picture.n_frames == 4
        assert picture.info["loop"] == 0


def test_no_clicks_no_taste_and_one_click_leans_to_what_was_kept():
    curator = taste.Curator(seed=3)
    np.testing.assert_array_equal(curator.reward, 0)
    shown = curator.menu()
    np.testing.assert_array_equal(curator.menu(), shown)  # until it is answered
    curator.click(1)
    assert curator.reward[shown[1]] > np.delete(curator.reward[shown], 1).max()
    with pytest.raises(BadInput, match="place"):
        curator.click(4)


def test_the_fit_is_the_top_of_the_posterior():
    rng = np.random.default_rng(0)
    menus, chosen = rng.normal(size=(40, 3, 5)), rng.integers(3, size=40)
    best = taste.fit(menus, chosen)
    for direction in np.vstack([np.eye(5), -np.eye(5)]):
        assert taste._loss(best + 1e-3 * direction, menus, chosen) > taste._loss(best, menus, chosen)


def test_pairs_give_bradley_terry():
    # One feature, 3 of 4 pairs won: without the prior, the log-odds would be log 3.
    menus = np.tile([[[1.0], [0.0]]], (4000, 1, 1))
    chosen = np.repeat([0, 1], [3000, 1000])
    assert taste.fit(menus, chosen)[0] == pytest.approx(math.log(3), abs=1e-3)


def test_many_clicks_recover_a_synthetic_curator():
    study = taste.study((100,), seeds=(11,), gamma=2.0, rounds=3)
    assert (study["agreement"] > 0.85).all()
    assert study["same_place"].all()


@pytest.mark.parametrize("k", [1, 17])
def test_the_curator_shows_as_many_samples_as_there_are_letters(k):
    with pytest.raises(BadInput, match=rf"k = {k}: must be in 2\.\.16"):
        controls.TasteExplorer(k=k)


def test_the_menu_comes_from_the_model_as_it_stands_and_real_data_hold_it():
    curator = taste.Curator(lam=1.0)
    curator.click(0)
    curator.take_round()
    law = curator.cells.prob
    np.testing.assert_array_equal(curator.path[1], population.step(law, curator.reward, 4, 1.0, law))
    curator.path.append(np.eye(1, len(law), 7)[0])
    assert curator.menu().tolist() == [7] * 4


def test_the_explorers_lines_are_its_curves():
    path = explorer.path(explorer.STORIES["with real data"])
    drawn = stage.LoopStage(path)
    drawn.png(path, 2)
    for line, column in ((drawn.mean, "mean"), (drawn.start, "kl_start"), (drawn.limit, "kl_limit")):
        np.testing.assert_array_equal(line.get_ydata(), path.curves[column])


def test_the_explorers_density_and_marks_are_of_the_round_shown():
    path = explorer.path(explorer.Setting(lam=0.25))
    drawn = stage.LoopStage(path)
    for t in (1, 3):
        drawn.png(path, t)
        np.testing.assert_allclose(drawn.density.get_array() ** 2, path.densities[t] / path.densities[t].max())
        assert drawn.now.get_xydata().tolist() == [[t, path.curves["mean"][t]]]
    assert list(drawn.bound.get_ydata()) == [path.bound] * 2
