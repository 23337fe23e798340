"""Every figure's style and drawing. Functions take arrays and return a figure; nothing here trains or samples."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle

# Okabe-Ito colours, told apart by readers with any colour vision; an arm has one colour in every notebook.
ARM_COLOURS = {"curated": "#D55E00", "mixed": "#0072B2", "control": "#555555"}
ARM_NAMES = {"curated": "curated only", "mixed": "with real data", "control": "K = 1 control"}
HEAT = "magma"


def use_style() -> None:
    """Set fonts, sizes and reproducible SVG output for every figure that follows."""
    sns.set_theme(context="paper", style="ticks", font_scale=1.0)
    mpl.rcParams.update(
        {
            "figure.dpi": 110,
            "savefig.dpi": 150,
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "svg.hashsalt": "curated-loops",
            "svg.fonttype": "none",
        }
    )


def subplots(rows: int, columns: int, width: float, height: float, **options) -> tuple[Figure, np.ndarray]:
    """A figure outside pyplot's registry (so a notebook shows it once) and its axes, (rows, columns)."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def heat_maps(fields: Sequence[np.ndarray], titles: Sequence[str], extent: float, power: float = 0.5) -> Figure:
    """Densities side by side, each (size, size) with y outermost, on its own colour scale.

    `power` < 1 lifts small values: on a linear scale a mode of 1 % would look empty.
    """
    figure, axes = subplots(1, len(fields), 2.6 * len(fields), 2.7)
    for axis, field, title in zip(axes[0], fields, titles, strict=True):
        heat_map(axis, field, extent, power)
        axis.set_title(title)
    return figure


def heat_map(axis, field: np.ndarray, extent: float, power: float = 0.5) -> None:
    """One density on one axis."""
    box = (-extent, extent, -extent, extent)
    axis.imshow(field, origin="lower", extent=box, cmap=HEAT, norm=PowerNorm(power, vmin=0.0))
    axis.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")


def point_rows(
    samples: dict[str, Sequence[np.ndarray]],
    rounds: Sequence[int],
    centre: tuple[float, float],
    r_min: float,
    extent: float = 3.0,
) -> Figure:
    """Samples by round: a row for each arm, a column for each round; the circle is the reward's flat top.

    Args:
        samples: for each arm, one (n, 2) array a round shown.
        rounds: numbers of these rounds, for the titles.
        centre: the rewarded point.
        r_min: radius of the flat top.
        extent: half width of the square shown.
    """
    figure, axes = subplots(
        len(samples), len(rounds), 1.55 * len(rounds) + 0.3, 1.6 * len(samples) + 0.2, sharex=True, sharey=True
    )
    for row, (arm, clouds) in zip(axes, samples.items(), strict=True):
        for axis, cloud in zip(row, clouds, strict=True):
            axis.scatter(*cloud.T, s=1.2, alpha=0.35, lw=0, color=ARM_COLOURS[arm], rasterized=True)
            axis.add_patch(Circle(centre, r_min, fill=False, lw=0.8, color="black"))
            axis.set(
                xlim=(-extent, extent),
                ylim=(-extent, extent),
                aspect="equal",
                xticks=[-2, 0, 2],
                yticks=[-2, 0, 2],
            )
        row[0].set_ylabel(ARM_NAMES[arm], color=ARM_COLOURS[arm], fontweight="bold")
    for axis, t in zip(axes[0], rounds, strict=True):
        axis.set_title(f"round {t}" if t else "round 0 ($p_0$)")
    return figure


def curves(
    histories: dict[str, pd.DataFrame], exact: dict[str, pd.DataFrame], columns: dict[str, str], per_row: int = 3
) -> Figure:
    """Measured columns over rounds: mean over seeds, band from least to greatest, exact dynamics dashed.

    Args:
        histories: for each arm, its seeds' histories in one table with columns round, seed and those drawn.
        exact: for each arm, the exact dynamics; a column it lacks is drawn without a dashed line.
        columns: column -> axis label.
        per_row: panels in a row.
    """
    rows = -(-len(columns) // per_row)
    figure, axes = subplots(rows, per_row, 2.5 * per_row, 2.1 * rows + 0.35, sharex=True)
    for axis, (column, label) in zip(axes.flat, columns.items(), strict=False):
        for arm, history in histories.items():
            by_round = history.groupby("round")[column]
            colour = ARM_COLOURS[arm]
            axis.fill_between(by_round.min().index, by_round.min(), by_round.max(), color=colour, alpha=0.2, lw=0)
            axis.plot(by_round.mean(), color=colour, marker="o", ms=2.5, lw=1.2, label=ARM_NAMES[arm])
            if column in exact.get(arm, ()):
                axis.plot(exact[arm]["round"], exact[arm][column], color=colour, ls="--", lw=1.0)
        axis.set(ylabel=label)
        axis.xaxis.get_major_locator().set_params(integer=True)
    for axis in list(axes.flat)[len(columns) :]:
        axis.remove()
    for axis in list(axes.flat)[max(0, len(columns) - per_row) : len(columns)]:
        axis.set_xlabel("retraining round $t$")
        axis.tick_params(labelbottom=True)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    if exact:
        handles.append(mpl.lines.Line2D([], [], color="black", ls="--", lw=1.0))
        labels.append("exact dynamics")
    figure.legend(handles, labels, loc="outside upper center", ncols=len(handles))
    return figure


def departures(
    panels: dict[str, tuple[str, dict[str, pd.DataFrame], pd.DataFrame]], labels: dict[str, str]
) -> Figure:
    """One panel a study: a column over rounds for several values of one setting, exact dynamics dashed.

    Args:
        panels: title -> (column, {value of the setting: history}, exact history).
        labels: column -> axis label.
    """
    figure, axes = subplots(1, len(panels), 3.4 * len(panels), 2.6)
    for axis, (title, (column, histories, exact)) in zip(axes[0], panels.items(), strict=True):
        colours = sns.color_palette("viridis", len(histories))
        for colour, (value, history) in zip(colours, histories.items(), strict=True):
            axis.plot(history["round"], history[column], color=colour, marker="o", ms=2.5, lw=1.2, label=value)
        axis.plot(exact["round"], exact[column], color="black", ls="--", lw=1.0, label="exact dynamics")
        axis.set(title=title, xlabel="retraining round $t$", ylabel=labels[column])
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(loc="best", fontsize="small")
    return figure
