"""What a figure's lines are: solid is measured, dashed is exact, and each arm has its own name."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from lib import experiments, figures, image_figures


def test_solid_is_measured_dashed_is_exact_and_arms_have_their_names():
    tables = {
        arm: pd.DataFrame({"round": [0, 1], "seed": 0, "share_0": [i, i + 1.0]})
        for i, arm in enumerate(experiments.ARMS)
    }
    exact = {arm: table.assign(share_0=table["share_0"] + 10) for arm, table in tables.items()}
    axis = figures.curves(tables, exact, {"share_0": "x"}).axes[0]
    drawn = [(line.get_linestyle(), line.get_ydata().tolist()) for line in axis.lines]
    assert drawn == [
        (style, table[arm]["share_0"].tolist())
        for arm in tables
        for style, table in (("-", tables), ("--", exact))
    ]
    chance = {"control": pd.DataFrame({"round": [0, 1, 0, 1], "repeat": [0, 0, 1, 1], "share_0": [5, 8, 6, 7]})}
    dotted = figures.curves(tables, exact, {"share_0": "x"}, finite=chance).axes[0].lines[len(drawn) :]
    assert [(line.get_linestyle(), line.get_ydata().tolist()) for line in dotted] == [(":", [5, 7]), (":", [6, 8])]
    named = [line.get_label() for line in axis.lines[::2]]
    assert named == ["curated only", "with real data", "K = 1 control"]
    loops = SimpleNamespace(arms=tuple(tables), histories=tables.get, exact=exact)
    for panel, arm, name in zip(image_figures.arm_shares(loops, ["a"], "x").axes, tables, named, strict=True):
        assert panel.get_title() == name
        assert [line.get_ydata().tolist() for line in panel.lines] == [
            t[arm]["share_0"].tolist() for t in (tables, exact)
        ]


def test_a_title_says_the_setting_and_stands_over_the_figure():
    assert figures.setting(4, np.inf, 0.5) == r"$K = 4$, $\lambda = \infty$, $\gamma = 0.5$"
    assert figures.setting(4, 1.0) == r"$K = 4$, $\lambda = 1$"
    table = pd.DataFrame({"round": [0, 1], "seed": 0, "repeat": 0, "x": [1.0, 2.0]})
    drawn = figures.curves({"curated": table}, {}, {"x": "x"}, title="a setting")
    assert drawn.legends[0].get_title().get_text() == "a setting"
    above = (
        figures.departures({"h": ("x", {2: table}, table, table)}, {"x": "x"}, "a setting"),
        figures.density_rows({"curated": [np.eye(4)]}, [0], 1.0, "a setting"),
        figures.point_rows({"curated": [np.eye(2)]}, [0], [(0, 0)], 0.5, "a setting"),
    )
    assert [figure.get_suptitle() for figure in above] == ["a setting"] * 3


def test_dotted_beside_a_study_is_what_a_perfect_model_does():
    table = pd.DataFrame({"round": [0, 1], "x": [1.0, 2.0]})
    chance = pd.concat([table, table.assign(x=[0.5, 3.0])])
    [axis] = figures.departures({"h": ("x", {2: table}, table, chance)}, {"x": "x"}).axes
    dotted = [line.get_ydata().tolist() for line in axis.lines if line.get_linestyle() == ":"]
    assert dotted == [[0.5, 2.0], [1.0, 3.0]]


def test_an_arm_shows_where_the_control_coincides():
    table = pd.DataFrame({"round": [0, 1], "seed": 0, "x": [8, 8]})
    mixed, control = figures.curves({"mixed": table, "control": table}, {}, {"x": "x"}).axes[0].lines
    assert control.get_linewidth() > 1.5 * mixed.get_linewidth()
    assert control.get_zorder() < mixed.get_zorder()


def test_classes_that_go_furthest_have_their_colours():
    far = dict(zip(range(6), (0.01, 0.3, 0.02, 0.2, 0.4, 0.1), strict=True))
    table = pd.DataFrame(
        {"round": [0, 1, 2], "seed": 0} | {f"share_{i}": [0.1, 0.1 + x, 0.1] for i, x in far.items()}
    )
    [axis] = image_figures.class_shares({"x": (table, None)}, "abcdef", "x", per_row=1).axes
    colours = [line.get_color() for line in axis.lines]
    named = [image_figures.CLASS_COLOURS[i] for i in (1, 3, 4, 5)]  # back at the end, and counted all the same
    assert colours == [image_figures.OTHERS] * 2 + named
    assert [line.get_ydata()[1] for line in axis.lines[2:]] == [0.1 + far[i] for i in (1, 3, 4, 5)]


def dashed(axis):
    """The points of its dashed lines, one (x, y) a line."""
    return [np.array(line.get_data()) for line in axis.lines if line.get_linestyle() == "--"]


def test_dashed_lines_of_theorem_2_4_are_its_bound():
    table = pd.DataFrame({"data": "x", "k": 4, "pressure": [0.1, 0.5, 0.99], "kl": 0.01})
    [(pressure, bound)] = dashed(figures.theorem_2_4(table).axes[0])
    assert (pressure[0], pressure[-1]) == (0.1, 0.99)
    assert np.exp(-bound) == pytest.approx(1 - pressure)


def test_dashed_lines_of_theorem_2_2_shrink_by_rho_squared_a_round():
    columns = {"lam": 1.0, "round": [0, 1, 2], "kl": [0.8, 0.1, 0.01], "contraction": 0.1, "bound": 0.25}
    table = pd.concat([pd.DataFrame({"family": f, "covered": True} | columns) for f in ("a", "b")])
    left, right = figures.theorem_2_2(table, 3.0, "a").axes
    [(_, bound)] = dashed(left)
    assert bound == pytest.approx([0.8, 0.2, 0.05])
    assert [line[1].tolist() for line in dashed(right)] == [[0.25], [0.25]]


def test_dashed_line_of_the_threshold_is_the_largest_share_that_the_proof_allows():
    across = pd.DataFrame({"k": 2, "pressure": [0.5, 2.0], "share": 1e-6, "solved": 1e-5, "reached": 1e-5})
    rare = pd.DataFrame({"k": 2, "pressure": [0.5, 2.0], "share": 1e-6, "kl": 0.1, "bound": [0.7, np.inf]})
    left, right = figures.threshold(across, rare).axes
    [(pressure, share)] = dashed(left)
    assert share * (1 - pressure) == pytest.approx(np.full(len(share), 1e-6))
    assert [line[1].tolist() for line in dashed(right)] == [[0.7]]


def test_bars_of_a_choice_are_two_standard_errors_long():
    table = pd.DataFrame({"law": [0.7, 0.3], "kept": [0.6, 0.4], "error": [0.05, 0.01]})
    figure = figures.choice(np.ones((4, 4)), 1.0, np.zeros((2, 2)), table, 0)
    law, kept = figure.axes[1].containers[0], figure.axes[1].containers[-1]
    assert [bar.get_height() for bar in law] == [0.7, 0.3]
    assert [bar.get_height() for bar in kept] == [0.6, 0.4]
    spans = [np.ptp(part.vertices[:, 1]) for part in kept.errorbar.lines[2][0].get_paths()]
    assert spans == pytest.approx([0.2, 0.04])


def test_the_first_row_of_a_density_is_drawn_at_the_bottom():
    axis = Figure().subplots()
    figures.heat_map(axis, np.array([[1.0, 0.0], [0.0, 0.0]]), 2.0)
    [image] = axis.images
    assert image.origin == "lower"
    assert image.get_extent() == [-2, 2, -2, 2]


@pytest.mark.parametrize("channels", [1, 3])
def test_tiled_pictures_stand_upright_row_by_row(channels):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, channels, 5, 7), dtype=np.uint8)
    picture = image_figures.tile(images, 2).reshape(11, 15, channels)
    for i, (top, left) in enumerate([(0, 0), (0, 8), (6, 0), (6, 8)]):
        assert np.array_equal(picture[top : top + 5, left : left + 7], images[i].transpose(1, 2, 0))
    assert (picture[5] == image_figures.GAP).all()
