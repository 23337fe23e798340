"""Every figure's style and drawing. Functions take arrays and return a figure; nothing here trains or samples."""

import math
from collections.abc import Sequence
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch

# Okabe-Ito colours, told apart by readers with any colour vision; an arm has one colour in every notebook.
ARM_COLOURS = {"curated": "#D55E00", "mixed": "#0072B2", "control": "#555555"}
ARM_NAMES = {"curated": "curated only", "mixed": "with real data", "control": "K = 1 control"}
K_COLOURS = {2: "#E69F00", 4: "#009E73", 16: "#CC79A7", math.inf: "#000000"}
LETTERS = "ABCDEFGHIJKLMNOP"
HEAT = "magma"
SAVE_DPI = 150  # of a PNG
TITLE, TOP = 0.25, "large"  # of a figure: its height in inches, its font size
BENEATH = 1.9  # the control lies under the other arms, and wider, so that one sees both where they coincide


def use_style() -> None:
    """Set fonts, sizes and reproducible SVG output for every figure that follows."""
    sns.set_theme(context="paper", style="ticks", font_scale=1.0)
    mpl.rcParams.update(
        {
            "figure.dpi": 110,
            "savefig.dpi": SAVE_DPI,
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


def setting(k: float, lam: float, gamma: float | None = None) -> str:
    """For a title: "K = 4, lambda = 1, gamma = 10" in symbols."""
    named = {"K": k, r"\lambda": lam} | ({} if gamma is None else {r"\gamma": gamma})
    return ", ".join(f"${name} = {x:g}$".replace("inf", r"\infty") for name, x in named.items())


def heat_map(axis, field: np.ndarray, extent: float, power: float = 0.5) -> None:
    """One density on one axis."""
    box = (-extent, extent, -extent, extent)
    axis.imshow(field, origin="lower", extent=box, cmap=HEAT, norm=PowerNorm(power, vmin=0.0))
    axis.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")


def point_rows(
    samples: dict[str, Sequence[np.ndarray]],
    rounds: Sequence[int],
    centres: Sequence[tuple[float, float]],
    r_min: float,
    title: str = "",
    extent: float = 3.0,
) -> Figure:
    """Samples by round: a row for each arm, a column for each round; circles are the reward's flat top.

    Args:
        samples: for each arm, one (n, 2) array a round shown.
        rounds: numbers of these rounds, for the titles.
        centres: the rewarded points.
        r_min: radius of the flat top around each.
        title: over the figure.
        extent: half width of the square shown.
    """
    size = 1.55 * len(rounds) + 0.3, 1.6 * len(samples) + 0.2 + TITLE * bool(title)
    figure, axes = subplots(len(samples), len(rounds), *size, sharex=True, sharey=True)
    figure.suptitle(title, fontsize=TOP)
    for row, (arm, clouds) in zip(axes, samples.items(), strict=True):
        for axis, cloud in zip(row, clouds, strict=True):
            axis.scatter(*cloud.T, s=1.2, alpha=0.35, lw=0, color=ARM_COLOURS[arm], rasterized=True)
            for centre in centres:
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
    histories: dict[str, pd.DataFrame],
    exact: dict[str, pd.DataFrame],
    columns: dict[str, str],
    per_row: int = 3,
    finite: dict[str, pd.DataFrame] | None = None,
    title: str = "",
) -> Figure:
    """Measured columns over rounds: mean over seeds, band from least to greatest, exact dynamics dashed.

    Args:
        histories: for each arm, its seeds' histories in one table with columns round, seed and those drawn.
        exact: for each arm, the exact dynamics; a column it lacks is drawn without a dashed line.
        columns: column -> axis label.
        per_row: panels in a row.
        finite: for each arm, histories of a perfect model on as many samples; least and greatest are dotted.
        title: over the figure.
    """
    finite = finite or {}
    rows = -(-len(columns) // per_row)
    figure, axes = subplots(rows, per_row, 2.5 * per_row, 2.1 * rows + 0.35 + TITLE * bool(title), sharex=True)
    for axis, (column, label) in zip(axes.flat, columns.items(), strict=False):
        for arm, history in histories.items():
            by_round = history.groupby("round")[column]
            colour = ARM_COLOURS[arm]
            axis.fill_between(by_round.min().index, by_round.min(), by_round.max(), color=colour, alpha=0.2, lw=0)
            z, size, width = (BENEATH, 4, 2.2) if arm == "control" else (2, 2.5, 1.2)
            style = {"color": colour, "zorder": z}
            axis.plot(by_round.mean(), marker="o", ms=size, lw=width, label=ARM_NAMES[arm], **style)
            if column in exact.get(arm, ()):
                axis.plot(exact[arm]["round"], exact[arm][column], ls="--", lw=1.0, **style)
            if column in finite.get(arm, ()):
                ends = finite[arm].groupby("round")[column].agg(["min", "max"])
                axis.plot(ends, ls=":", lw=0.9, **style)
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
    if finite:
        handles.append(mpl.lines.Line2D([], [], color="black", ls=":", lw=0.9))
        labels.append("perfect model")
    # As a title of its own it would lie on the legend.
    figure.legend(handles, labels, loc="outside upper center", ncols=len(handles), title=title, title_fontsize=TOP)
    return figure


def departures(
    panels: dict[str, tuple[str, dict[str, pd.DataFrame], pd.DataFrame, pd.DataFrame]],
    labels: dict[str, str],
    title: str = "",
) -> Figure:
    """One panel a study: a column over rounds for several values of one setting, exact dynamics dashed.

    Args:
        panels: heading -> (column, {value of the setting: history}, exact history, histories of a perfect model on
            as many samples, of which least and greatest are dotted).
        labels: column -> axis label.
        title: over the figure.
    """
    figure, axes = subplots(1, len(panels), 4.6 * len(panels), 2.6 + TITLE * bool(title))
    figure.suptitle(title, fontsize=TOP)
    for axis, (heading, (column, histories, exact, finite)) in zip(axes[0], panels.items(), strict=True):
        colours = sns.color_palette("viridis", len(histories))
        for colour, (value, history) in zip(colours, histories.items(), strict=True):
            axis.plot(history["round"], history[column], color=colour, marker="o", ms=2.5, lw=1.2, label=value)
        axis.plot(exact["round"], exact[column], color="black", ls="--", lw=1.0, label="exact dynamics")
        ends = finite.groupby("round")[column].agg(["min", "max"])
        axis.plot(ends, color="black", ls=":", lw=0.9, label=["perfect model", None])
        axis.set(title=heading, xlabel="retraining round $t$", ylabel=labels[column])
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize="small")
    return figure


def choice(density: np.ndarray, extent: float, menu: np.ndarray, table: pd.DataFrame, chosen: int) -> Figure:
    """One menu on the data's density, Luce's probability at each sample; how often each was kept in replays.

    Args:
        density: (size, size), y outermost.
        extent: half width of its square.
        menu: the samples shown, (k, 2).
        table: a row a sample: law, kept, error.
        chosen: the sample kept.
    """
    figure, axes = subplots(1, 2, 6.6, 3.1)
    left, right = axes[0]
    box = (-extent, extent, -extent, extent)
    left.imshow(
        density, origin="lower", extent=box, cmap="Greys", norm=PowerNorm(0.5, vmin=0.0, vmax=2 * density.max())
    )
    left.scatter(*menu.T, s=30, color=ARM_COLOURS["mixed"], zorder=3)
    left.scatter(*menu[chosen], s=150, facecolor="none", edgecolor=ARM_COLOURS["curated"], lw=2, zorder=4)
    for letter, place, law in zip(LETTERS, menu, table["law"], strict=False):
        label = {"xytext": (0, 11), "textcoords": "offset points", "ha": "center", "fontweight": "bold"}
        left.annotate(f"{letter}: {law:.2f}", place, **label)
    left.set(xlabel="$x_1$", ylabel="$x_2$", title="one menu: probability, and the one kept", aspect="equal")
    place = np.arange(len(menu))
    right.bar(place - 0.2, table["law"], 0.4, color="#BBBBBB", label="Luce's rule")
    error = {"yerr": 2 * table["error"], "error_kw": {"lw": 1.2}}
    right.bar(place + 0.2, table["kept"], 0.4, color=ARM_COLOURS["curated"], label="kept (bar: 2 s.e.)", **error)
    right.set_xticks(place, list(LETTERS[: len(menu)]))
    right.set(xlabel="sample", ylabel="probability, frequency", title="the same menu, many times")
    right.set_ylim(top=1.3 * table["law"].max())  # room for the legend
    right.legend(loc="upper left")
    return figure


def loop(
    stations: dict[str, np.ndarray], reward: np.ndarray, chosen: int, extent: float, top: tuple[tuple, float]
) -> Figure:
    """Algorithm 1 in one picture: seven stations from left to right, and the two ways that lead back into the row.

    Args:
        stations: real (n, 2), start (size, size) with y outermost, pool (m, 2), menu (k, 2), kept (i, 2),
            mixed_in (j, 2): the real points beside the kept ones, after (size, size).
        reward: r of each point of the pool, (m,).
        chosen: place of the kept sample on the menu.
        extent: half width of the square.
        top: centre and radius of the reward's flat top.
    """
    titles = ("real data", "fit $p_0$", "sample", "reward", f"keep 1 of {len(stations['menu'])}", "mix", "refit")
    files = ("toy, datasets", "generators", "generators", "rewards", "curation", "loop", "generators")
    figure, axes = subplots(1, len(titles), 10.4, 2.7)
    figure.get_layout_engine().set(w_pad=0.09, rect=(0, 0.17, 1, 0.67))
    real, start, sample, rated, menu, mixed, after = axes[0]
    _dots(real, stations["real"], ARM_COLOURS["mixed"])
    _dots(sample, stations["pool"], ARM_COLOURS["control"])
    rated.scatter(*stations["pool"].T, s=3, lw=0, c=reward.clip(-20.0), cmap="viridis", rasterized=True)
    rated.add_patch(Circle(*top, fill=False, lw=0.9, color="black"))
    _dots(menu, stations["pool"], "#CCCCCC")
    for letter, place in zip(LETTERS, stations["menu"], strict=False):
        menu.text(*place, letter, ha="center", va="center", fontweight="bold", fontsize=8)
    menu.scatter(*stations["menu"][chosen], s=110, facecolor="none", edgecolor=ARM_COLOURS["curated"], lw=1.6)
    _dots(mixed, stations["mixed_in"], ARM_COLOURS["mixed"])
    _dots(mixed, stations["kept"], ARM_COLOURS["curated"])
    for axis, key in ((start, "start"), (after, "after")):
        heat_map(axis, stations[key], extent)
    for axis, number, title, file in zip(axes[0], range(1, 8), titles, files, strict=True):
        axis.set(xticks=[], yticks=[], ylabel="", aspect="equal", xlim=(-extent, extent), ylim=(-extent, extent))
        axis.set_title(f"{number}  {title}", fontsize="medium", fontweight="bold")
        axis.set_xlabel(file, fontsize="small", color="#555555", family="monospace")
        axis.spines[:].set(visible=True, color="#BBBBBB")
    _roads(figure, list(axes[0]))
    return figure


def _dots(axis, points: np.ndarray, colour: str) -> None:
    axis.scatter(*points.T, s=3, lw=0, alpha=0.7, color=colour, rasterized=True)


def _roads(figure: Figure, axes: list) -> None:
    """Arrows from station to station, from the real data to the mix, and from the new model back to sampling."""
    FigureCanvasAgg(figure).draw()  # places the axes
    figure.set_layout_engine("none")
    boxes = [axis.get_position() for axis in axes]
    middle = (boxes[0].y0 + boxes[0].y1) / 2
    for before, after in pairwise(boxes):
        _arrow(figure, (before.x1 + 0.003, middle), (after.x0 - 0.003, middle), "black")
    top, bottom = boxes[0].y1 + 0.11, boxes[0].y0 - 0.10
    centres = [(box.x0 + box.x1) / 2 for box in boxes]
    _road(figure, centres[0], centres[5], top, 0.08, ARM_COLOURS["mixed"], r"real data: 1 row in $1 + \lambda$")
    _road(figure, centres[6], centres[2], bottom, -0.08, "black", "round $t + 1$: the new model is sampled")


def _road(figure: Figure, start: float, end: float, near: float, depth: float, colour: str, text: str) -> None:
    """Out of a station at height `near`, along at near + depth, into another one."""
    far = near + depth
    line = mpl.lines.Line2D([start, start, end], [near, far, far], color=colour, lw=1.2)
    figure.add_artist(line)
    _arrow(figure, (end, far), (end, near), colour)
    place = {"ha": "center", "va": "center", "color": colour, "fontsize": "medium", "backgroundcolor": "white"}
    figure.text((start + end) / 2, far, text, **place)


def _arrow(figure: Figure, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    shape = {"arrowstyle": "-|>", "mutation_scale": 9, "shrinkA": 0, "shrinkB": 0, "lw": 1.2, "color": colour}
    figure.add_artist(FancyArrowPatch(start, end, transform=figure.transFigure, **shape))


def density_rows(
    fields: dict[str, Sequence[np.ndarray]], rounds: Sequence[int], extent: float, title: str
) -> Figure:
    """p_t as heat maps, each on its own colour scale: a row for each arm, a column for each round."""
    size = 1.55 * len(rounds) + 0.3, 1.65 * len(fields) + 0.2 + TITLE
    figure, axes = subplots(len(fields), len(rounds), *size, sharex=True, sharey=True)
    figure.suptitle(title, fontsize=TOP)
    for row, (arm, densities) in zip(axes, fields.items(), strict=True):
        for axis, density in zip(row, densities, strict=True):
            heat_map(axis, density, extent)
            axis.set(xlabel="", ylabel="", xticks=[-2, 0, 2], yticks=[-2, 0, 2])
        row[0].set_ylabel(ARM_NAMES[arm], color=ARM_COLOURS[arm], fontweight="bold")
    for axis, t in zip(axes[0], rounds, strict=True):
        axis.set_title(f"round {t}" if t else "round 0 ($p_0$)")
    return figure


def reward_and_limit(rows: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]], extent: float) -> Figure:
    """For each data set, a row: level sets of the reward, the initial density, the limit p*.

    Args:
        rows: name -> (reward, initial, limit), each (size, size) with y outermost.
        extent: half width of the square.
    """
    figure, axes = subplots(len(rows), 3, 7.0, 2.25 * len(rows) + 0.2, sharex=True, sharey=True)
    for row, (name, (reward, initial, limit)) in zip(axes, rows.items(), strict=True):
        side = (np.arange(len(reward)) + 0.5) / len(reward) * 2 * extent - extent
        # The flat top is r = 0: a level a hair below it gives the set its own colour.
        edges = [-50, -40, -30, -20, -15, -10, -5, -1e-9, 1]
        levels = row[0].contourf(side, side, reward, edges, cmap="viridis", extend="min")
        bar = figure.colorbar(levels, ax=row[0], shrink=0.9)
        bar.ax.set_yticks([*edges[:-2], 0.5], [*(f"−{-edge}" for edge in edges[:-2]), "0, flat top"])
        row[0].set(aspect="equal", xlabel="$x_1$", ylabel=f"{name}\n$x_2$")
        heat_map(row[1], initial, extent)
        heat_map(row[2], limit, extent)
    for axis, title in zip(axes[0], ("reward $r$", "initial density $p_0$", "limit density $p^*$"), strict=True):
        axis.set_title(title)
    for axis in axes.flat:
        axis.label_outer()
    return figure


def lemma_2_1(table: pd.DataFrame) -> Figure:
    """Distance to the K = inf law over K, a panel for each data set, with a 1/K guide."""
    figure, axes = subplots(1, table["data"].nunique(), 6.6, 2.7, sharey=True)
    for axis, (name, part) in zip(axes[0], table.groupby("data"), strict=True):
        for (t, line), colour in zip(part.groupby("round"), ("#0072B2", "#D55E00", "#009E73"), strict=False):
            axis.loglog(line["k"], line["distance"], "o-", ms=3, color=colour, label=f"round {t}")
        ends = np.array([16.0, line["k"].max()])
        axis.loglog(ends, 0.4 * part["distance"].min() * ends[-1] / ends, "k--", lw=1, label="slope −1")
        axis.set(title=name, xlabel="menu size $K$")
    axes[0, 0].set_ylabel(r"$\| p_t - p_0 e^{t r} / Z \|_1$")
    axes[0, 0].legend()
    return figure


def lemma_2_2(table: pd.DataFrame) -> Figure:
    """E[e^r], Var[e^r], gain over bound less 1, curated only: a row a data set, a colour a menu size."""
    figure, axes = subplots(table["data"].nunique(), 3, 7.2, 4.4, sharex=True)
    table = table.assign(ratio=table["gain"] / table["bound"] - 1)
    labels = (r"$E_{p_t}[e^r]$", r"$\mathrm{Var}_{p_t}[e^r]$", "gain / bound $-$ 1")
    for row, (name, part) in zip(axes, table.groupby("data"), strict=True):
        for axis, column, label in zip(row, ("mean", "var", "ratio"), labels, strict=True):
            _by_k(axis, part, column, marker="o", ms=2)
            axis.set(ylabel=label, title=name)
            axis.set_xscale("symlog", linthresh=1)
        row[1].set_yscale("log")
        row[2].set_yscale("log")
    _round_labels(axes)
    for axis in axes[-1]:
        axis.set_xlabel("round $t$ (log from 1)")
    _legend(figure, axes[0, 0])
    return figure


def theorem_2_1(table: pd.DataFrame) -> Figure:
    """KL(p* || p_t) over rounds, a panel a data set, a colour a menu size, with a 1/t guide."""
    figure, axes = subplots(1, table["data"].nunique(), 6.6, 3.0, sharey=True)
    for axis, (name, part) in zip(axes[0], table[table["round"] > 0].groupby("data"), strict=True):
        _by_k(axis, part, "kl")
        last = part[part["round"] == part["round"].max()]
        ends = np.array([last["round"].iloc[0] / 6, last["round"].iloc[0]])
        axis.plot(ends, 1.7 * last["kl"].max() * ends[-1] / ends, "k--", lw=1, label="slope −1")
        axis.set(xscale="log", yscale="log", title=name)
    axes[0, 0].set_ylabel(r"$\mathrm{KL}(p^* \| p_t)$, nats")
    _round_labels(axes)
    _legend(figure, axes[0, 0])
    return figure


def theorem_2_3(table: pd.DataFrame) -> Figure:
    """Gain in E[e^r] over p_ref along mixed loops, bound dashed: a row a data set, a column a lambda."""
    lams = sorted(table["lam"].unique())
    figure, axes = subplots(table["data"].nunique(), len(lams), 7.2, 4.2, sharex=True, sharey=True)
    for row, (name, part) in zip(axes, table.groupby("data"), strict=True):
        for axis, lam in zip(row, lams, strict=True):
            _by_k(axis, part[part["lam"] == lam], "gain")
            _by_k(axis, part[part["lam"] == lam], "gain_bound", ls="--", label=False)
            axis.set(yscale="log", title=rf"{name}, $\lambda = {lam:g}$")
        row[0].set_ylabel("gain in $E[e^r]$")
    _round_labels(axes)
    _legend(figure, axes[0, 0], dashed="bound")
    return figure


def theorem_2_4(table: pd.DataFrame) -> Figure:
    """Largest KL(p_t || p_ref) over t against lambda (K - 1), a panel a data set, the bound dashed."""
    figure, axes = subplots(1, table["data"].nunique(), 6.6, 3.0, sharey=True)
    worst = table.groupby(["data", "k", "pressure"], as_index=False)["kl"].max()
    for axis, (name, part) in zip(axes[0], worst.groupby("data"), strict=True):
        _by_k(axis, part, "kl", x="pressure", marker="o", ms=3)
        x = np.linspace(part["pressure"].min(), part["pressure"].max(), 200)
        axis.plot(x, -np.log1p(-x), "k--", lw=1.2)
        axis.set(yscale="log", title=name, xlabel=r"$\lambda (K - 1)$")
    axes[0, 0].set_ylabel(r"$\max_t \mathrm{KL}(p_t \| p_\mathrm{ref})$, nats")
    _legend(figure, axes[0, 0], dashed=r"bound $-\log(1 - \lambda(K - 1))$")
    return figure


def threshold(across: pd.DataFrame, rare: pd.DataFrame) -> Figure:
    """Theorem 2.4's threshold: where a rare rewarded set ends, and KL to p_ref as it gets rarer.

    Args:
        across: `lib.statements.threshold` at one share, many pressures, one or two K.
        rare: the same for many shares, one K, one pressure on each side of the threshold.
    """
    figure, axes = subplots(1, 2, 7.0, 3.0)
    left, right = axes[0]
    for (k, part), marker, size in zip(across.groupby("k"), "os", (7, 3), strict=False):
        style = {"ms": size, "mfc": "white" if size > 3 else K_COLOURS[k], "label": f"$K = {k}$"}
        left.plot(part["pressure"], part["solved"], color=K_COLOURS[k], lw=1)
        left.plot(part["pressure"], part["reached"], marker, color=K_COLOURS[k], **style)
    left.axvline(1.0, color="black", lw=0.8, ls=":")
    share = across["share"].iloc[0]
    below = np.linspace(0.1, 0.995, 200)
    left.plot(below, share / (1 - below), "k--", lw=1, label=r"$p_\mathrm{ref}(A) / (1 - \lambda(K-1))$")
    left.set(yscale="log", xlabel=r"$\lambda (K - 1)$", ylabel="final $p(A)$")
    left.set_title(rf"$p_\mathrm{{ref}}(A) = 10^{{{math.log10(share):.0f}}}$")
    left.legend(loc="lower right")
    for (pressure, part), colour in zip(rare.groupby("pressure"), ("#0072B2", "#D55E00"), strict=True):
        right.plot(part["share"], part["kl"], "o-", ms=4, color=colour, label=rf"$\lambda(K-1) = {pressure:g}$")
        if np.isfinite(part["bound"]).all():
            right.plot(part["share"], part["bound"], "--", color=colour, lw=1, label="its bound")
    right.set(xscale="log", xlabel=r"$p_\mathrm{ref}(A)$, rarer $\rightarrow$", title=f"$K = {rare['k'].iloc[0]}$")
    right.set_ylabel(r"final $\mathrm{KL}(p_t \| p_\mathrm{ref})$, nats")
    right.invert_xaxis()
    right.legend()
    return figure


def theorem_2_2(table: pd.DataFrame, limit: float, family: str) -> Figure:
    """KL over rounds beside its bound for one family; contraction a round against lambda for all.

    Args:
        table: `lib.parametric.theorem_2_2`, two families.
        limit: largest lambda that the theorem covers for `family`.
        family: the one drawn on the left.
    """
    figure, axes = subplots(1, 2, 7.0, 3.7)
    left, right = axes[0]
    above = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "columnspacing": 1.2}
    shown = table[table["family"] == family]
    for (lam, part), colour in zip(shown.groupby("lam"), sns.color_palette("viridis", 6), strict=False):
        left.semilogy(part["round"], part["kl"], "o-", ms=2.5, lw=1, color=colour, label=rf"$\lambda = {lam:g}$")
        if part["covered"].all():
            bound = part["kl"].iloc[0] * part["bound"] ** part["round"]
            left.semilogy(part["round"], bound, "--", lw=1, color=colour)
    left.set(xlabel="retraining round $t$", ylabel=r"$\mathrm{KL}(p_{\theta^*} \| p_{\theta_t})$, nats")
    left.set_ylim(1e-11, 1)
    left.legend(title=f"{family} family (dashed: bound, if any)", ncols=2, **above)  # as many rows as beside it
    worst = table.groupby(["family", "lam"], as_index=False)[["contraction", "bound"]].max()
    for (name, part), colour in zip(worst.groupby("family"), ("#009E73", "#D55E00"), strict=True):
        right.plot(
            part["lam"], part["contraction"], "o", ms=4, color=colour, label=f"{name}, largest of any round"
        )
        right.plot(part["lam"], part["bound"], "--", lw=1, color=colour, label=rf"{name}, $\rho^2$")
    right.axvline(limit, color="black", ls=":", lw=1, label=rf"$\alpha / (2 L \epsilon)$, {family}")
    right.axhline(1.0, color="black", lw=0.6)
    right.set(xscale="log", xlabel=r"$\lambda$", ylabel="KL after / before a round", ylim=(0, None))
    lams = sorted(table["lam"].unique())
    right.set_xticks(lams, [f"{lam:g}" for lam in lams])
    right.minorticks_off()
    right.legend(title="contraction in a round", ncols=2, **above)
    return figure


def _by_k(
    axis, table: pd.DataFrame, column: str, x: str = "round", ls: str = "-", label: bool = True, **style
) -> None:
    """One line for each menu size."""
    for k, line in table.groupby("k"):
        name = (r"$K = \infty$" if math.isinf(k) else f"$K = {k:g}$") if label else None
        axis.plot(line[x], line[column], ls=ls, lw=1.2, color=K_COLOURS[k], label=name, **style)


def _round_labels(axes: np.ndarray) -> None:
    for axis in axes[-1]:
        axis.set_xlabel("retraining round $t$")


def _legend(figure: Figure, axis, dashed: str | None = None) -> None:
    """One legend above all panels; `dashed` names what dashed black stands for."""
    handles, labels = axis.get_legend_handles_labels()
    if dashed:
        handles, labels = [*handles, mpl.lines.Line2D([], [], color="black", ls="--", lw=1)], [*labels, dashed]
    figure.legend(handles, labels, loc="outside upper center", ncols=len(handles))
