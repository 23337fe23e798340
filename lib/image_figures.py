"""Drawing of the image loops. Functions take tables and arrays and return a figure; nothing here trains."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.experiments import Loops
from lib.figures import ARM_COLOURS, ARM_NAMES, curves, subplots
from lib.products import seed_list
from lib.profiles import Profile

# Petroff's ten colours, chosen for readers with any colour vision; a class has one colour in every notebook.
CLASS_COLOURS = (
    "#3f90da", "#94a4a2", "#92dadd", "#ffa90e", "#832db6", "#a96b59", "#e76300", "#717581", "#bd1f01", "#b9ac70",
)  # fmt: skip
NAMED = 4  # classes of a figure in their colours, those that go furthest; ten cannot be told apart
QUALITY = ("frechet_distance_evaluator", "precision", "recall")
SETTINGS = [  # of a profile's `images` section, those a reader asks for
    "data", "network", "k", "menus", "lam", "airplane_gamma", "confidence_gamma", "rounds", "quality_rounds",
    "n_keep", "round_steps", "lr", "method", "ode_steps", "start",
]  # fmt: skip
OTHERS = "#c8c8c8"
GAP = 128  # grey level of the lines between images of a grid
LABELS = {
    "mean_reward": "mean reward $E[r]$",
    "entropy": "entropy of shares\n(nats)",
    "confidence_evaluator": "confidence\n(evaluator)",
    "frechet_distance_evaluator": "Fréchet distance\n(evaluator features)",
    "precision": "precision",
    "recall": "recall",
    "fid": "FID",
    "tv_to_exact": "TV to exact shares",
}


def class_shares(
    panels: dict[str, tuple[pd.DataFrame, pd.DataFrame | None]],
    names: Sequence[str],
    title: str,
    per_row: int = 3,
    also: Sequence[int] = (),
) -> Figure:
    """Class shares over rounds: mean over seeds with a band from least to greatest, exact dynamics dashed.

    The NAMED classes whose share goes furthest in any panel, and those in `also`, have their colours, the others
    are thin grey lines.

    Args:
        panels: title -> (history of one arm's seeds, its exact dynamics or None).
        names: of the classes.
        title: over the figure; names the data.
        per_row: panels in a row.
        also: indices of further classes to tell by colour.
    """
    rows = -(-len(panels) // per_row)
    figure, axes = subplots(rows, per_row, 2.7 * per_row + 0.9, 2.4 * rows + 0.4, sharex=True, sharey=True)
    named = sorted({*_movers([history for history, _ in panels.values()], len(names)), *also})
    for axis, (heading, (history, exact)) in zip(axes.flat, panels.items(), strict=False):
        means = history.groupby("round")[[f"share_{i}" for i in range(len(names))]].mean()
        axis.plot(means.drop(columns=[f"share_{i}" for i in named]), color=OTHERS, lw=0.7)
        for i in named:
            colour, by_round = CLASS_COLOURS[i], history.groupby("round")[f"share_{i}"]
            low, high = by_round.min(), by_round.max()
            axis.fill_between(low.index, low, high, color=colour, alpha=0.25, lw=0)
            axis.plot(by_round.mean(), color=colour, lw=1.5)
            if exact is not None:
                axis.plot(exact["round"], exact[f"share_{i}"], color=colour, ls="--", lw=0.9)
        axis.set_title(heading, fontsize="medium")
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].set_ylim(bottom=0)  # shared, and only now: it ends automatic scaling
    for axis in list(axes.flat)[len(panels) :]:
        axis.remove()
    for axis in axes[:, 0]:
        axis.set_ylabel("class share (evaluator)")
    for axis in list(axes.flat)[max(0, len(panels) - per_row) : len(panels)]:
        axis.set_xlabel("retraining round $t$")
        axis.tick_params(labelbottom=True)
    line = mpl.lines.Line2D
    handles = {names[i]: line([], [], color=CLASS_COLOURS[i], lw=2) for i in named}
    if len(named) < len(names):
        handles["other classes"] = line([], [], color=OTHERS, lw=0.7)
    handles["exact"] = line([], [], color="black", ls="--", lw=0.9)
    figure.legend(handles.values(), handles.keys(), loc="outside right center", fontsize="small")
    figure.suptitle(title)
    return figure


def _movers(histories: list[pd.DataFrame], classes: int) -> list[int]:
    """The NAMED classes whose mean share goes furthest from its start in any round of any history."""
    columns = [f"share_{i}" for i in range(classes)]
    means = [history.groupby("round")[columns].mean() for history in histories]
    moved = np.max([(mean - mean.iloc[0]).abs().max().to_numpy() for mean in means], axis=0)
    return np.argsort(-moved, kind="stable")[:NAMED].tolist()


def arm_shares(loops: Loops, names: Sequence[str], title: str, also: Sequence[int] = ()) -> Figure:
    """`class_shares` with a panel for each arm."""
    panels = {ARM_NAMES[arm]: (loops.histories(arm), loops.exact[arm]) for arm in loops.arms}
    return class_shares(panels, names, title, per_row=min(3, len(panels)), also=also)


def arm_curves(
    loops: Loops, columns: Sequence[str], title: str, floor: dict[str, float] | None = None, exact: bool = True
) -> Figure:
    """`figures.curves` of some columns under a title, with a dash-dotted line where real images would score.

    Args:
        loops: its arms are drawn.
        columns: keys of LABELS.
        title: over the figure; names the data.
        floor: column -> the value of real test images.
        exact: draw the exact dynamics, too, and a perfect model on as many samples; False where they say nothing
            of these columns.
    """
    histories = {arm: loops.histories(arm) for arm in loops.arms}
    beside = {"exact": loops.exact, "finite": loops.finite} if exact else {"exact": {}}
    figure = curves(histories, columns={c: LABELS[c] for c in columns}, **beside)
    for axis, column in zip(figure.axes, columns, strict=True):
        if column == "precision":  # its whole range is narrow: noise would fill the axis
            axis.set_ylim(min(axis.get_ylim()[0], 0.8), 1.0)
        if column in (floor or {}):
            axis.axhline(floor[column], color="black", ls="-.", lw=0.9)
            axis.annotate(
                "real", (1.01, floor[column]), xycoords=("axes fraction", "data"), va="center", fontsize=7
            )
    figure.legends[0].set_title(title, {"size": "large"})  # a title of its own would lie on the legend
    return figure


def rulers(loops: Loops, real: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Quality in the first and the last round of each arm, mean over the seeds, above that of some real images."""
    ends = {}
    for arm in loops.arms:
        means = loops.histories(arm).groupby("round")[list(QUALITY)].mean()
        ends |= {f"{ARM_NAMES[arm]}, round {t}": means.loc[t] for t in (0, means.index[-1])}
    return pd.DataFrame(ends | real).T[list(QUALITY)]


def origin(source: str, profile: Profile, seeds: list[int]) -> str:
    """For a caption: data, profile, size of a round and seeds of what a figure shows."""
    kept, drawn = profile.images.n_keep, profile.images.n_keep * profile.images.k
    return f"{source}, profile `{profile.name}`, {kept:,} of {drawn:,} images kept a round, {seed_list(seeds)}"


def image_grids(
    samples: dict[str, Sequence[np.ndarray]], rounds: Sequence[int], title: str, side: int = 6
) -> Figure:
    """Images by round: a row for each arm, a column for each round, side x side images in each.

    Args:
        samples: for each arm, one uint8 array (n >= side^2, C, H, W) a round shown.
        rounds: their numbers.
        title: over the figure; names the data.
        side: images along an edge.
    """
    figure, axes = subplots(len(samples), len(rounds), 1.75 * len(rounds) + 0.3, 1.8 * len(samples) + 0.5)
    for row, (arm, batches) in zip(axes, samples.items(), strict=True):
        for axis, images in zip(row, batches, strict=True):
            tiled = tile(images[: side * side], side)
            axis.imshow(tiled, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        row[0].set_ylabel(ARM_NAMES.get(arm, arm), color=ARM_COLOURS.get(arm, "black"), fontweight="bold")
    for axis, t in zip(axes[0], rounds, strict=True):
        axis.set_title(f"round {t}" if t else "round 0 ($p_0$)", fontsize="medium")
    figure.suptitle(title)
    return figure


def tile(images: np.ndarray, side: int) -> np.ndarray:
    """uint8 (side^2, C, H, W) => one picture with grey lines between images, (h, w) or (h, w, 3)."""
    framed = np.pad(images, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=GAP)
    _, channels, height, width = framed.shape
    rows = framed.reshape(side, side, channels, height, width)
    picture = rows.transpose(0, 3, 1, 4, 2).reshape(side * height, side * width, channels)[:-1, :-1]
    return picture[..., 0] if channels == 1 else picture


def study_panels(
    panels: dict[str, dict[str, tuple[pd.DataFrame, pd.DataFrame]]], column: str, label: str, title: str
) -> Figure:
    """One panel a menu rule: a column over rounds for each K, exact dynamics dashed in the same colour.

    Args:
        panels: title -> {name of the curve: (history, exact)}.
        column: what is drawn.
        label: its name.
        title: over the figure; names the data.
    """
    figure, axes = subplots(1, len(panels), 3.3 * len(panels), 2.7, sharey=True)
    for axis, (heading, settings) in zip(axes[0], panels.items(), strict=True):
        for colour, (name, (history, exact)) in zip(
            ("#3f90da", "#832db6", "#bd1f01"), settings.items(), strict=False
        ):
            axis.plot(history["round"], history[column], color=colour, marker="o", ms=3, lw=1.3, label=name)
            axis.plot(exact["round"], exact[column], color=colour, ls="--", lw=1.0)
        axis.plot([], [], color="black", ls="--", lw=1.0, label="exact")
        axis.set(xlabel="retraining round $t$")
        axis.set_title(heading, fontsize="medium")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(loc="upper left", fontsize="small")
    axes[0, 0].set_ylabel(label)
    figure.suptitle(title)
    return figure
