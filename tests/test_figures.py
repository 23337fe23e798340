"""What a figure's lines are: solid is measured, dashed is exact, and each arm has its own name."""

from types import SimpleNamespace

import pandas as pd

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
