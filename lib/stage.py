"""Pictures that keep up with a slider: axes are drawn once, and only what changed is painted over them."""

import io
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import PIL.Image
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from lib.explorer import ROUNDS, Path
from lib.figures import HEAT, LETTERS, setting, subplots
from lib.taste import Curator

DPI = 96
FLOOR = -20.0  # rewards below this share a colour
KL_RANGE = (1e-3, 1e2)  # nats
REACH = 14.0  # pixels from the middle of a letter that count as on it: its disc, and a little for a shaky hand
GAP = 0.65  # between the middles of two letters, in units of x: their discs do not touch
ROOM = setting(math.inf, math.inf, 0)  # stands in for a title at first: no axis moves with what it says
MEAN, START, LIMIT, BOUND = "#000000", "#0072B2", "#D55E00", "#0072B2"


class Stage:
    """A figure of which some artists move.

    Args:
        figure: drawn once, without the moving artists.
        moving: artists repainted each time, in this order.
    """

    def __init__(self, figure: Figure, moving: Sequence):
        self.moving = moving
        self.canvas = FigureCanvasAgg(figure)
        figure.set_dpi(DPI)
        for artist in moving:
            artist.set_animated(True)
        self.canvas.draw()
        figure.set_layout_engine("none")
        self.still = self.canvas.copy_from_bbox(figure.bbox)

    def png(self) -> bytes:
        """The picture as it is now."""
        self.canvas.restore_region(self.still)
        for artist in self.moving:
            (artist.axes or artist.get_figure()).draw_artist(artist)
        return png(np.asarray(self.canvas.buffer_rgba()))

    def display(self, x: float, y: float) -> tuple[float, float]:
        """A pixel of the picture, counted from its upper left corner, in Matplotlib's display coordinates."""
        return x, self.canvas.get_width_height()[1] - y


class LoopStage:
    """The explorer's picture: reward, density p_t, E[e^r] and KL over rounds."""

    width, height = 10.4, 2.55  # inches

    def __init__(self, path: Path):
        figure, axes = subplots(1, 4, self.width, self.height)
        reward, density, mean, kl = axes[0]
        self.reward = _image(reward, path.reward, path.extent, "viridis", "reward $r$", (FLOOR, 0.0))
        self.density = _image(density, path.reward, path.extent, HEAT, "", (0.0, 1.0))
        self.rings = [axis.add_patch(_ring(colour)) for axis, colour in ((reward, "black"), (density, "white"))]
        self.title = density.title
        (self.mean,) = mean.plot([], [], "o-", ms=3, lw=1.2, color=MEAN)
        (self.now,) = mean.plot([], [], "o", ms=9, mfc="none", mec=LIMIT, mew=1.5)
        (self.start,) = kl.plot([], [], "o-", ms=3, lw=1.2, color=START, label=r"$\mathrm{KL}(p_t \| p_0)$")
        (self.limit,) = kl.plot([], [], "s-", ms=3, lw=1.2, color=LIMIT, label=r"$\mathrm{KL}(p^* \| p_t)$")
        (self.bound,) = kl.plot([], [], "--", lw=1.2, color=BOUND, label="bound on the first (Thm 2.4)")
        _over_rounds(mean, "$E_{p_t}[e^r]$", ylim=(-0.02, 1.05))
        _over_rounds(kl, "KL, nats", ylim=KL_RANGE)
        kl.set_yscale("log", nonpositive="mask")  # KL(p_0 || p_0) = 0 has no place
        legend = kl.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize="small")
        self.named = [legend.legend_handles[-1], legend.texts[-1]]  # the bound's
        for part in self.named:
            part.set_visible(False)
        self.head = figure.suptitle(ROOM)
        lines = [self.mean, self.now, self.start, self.limit, self.bound, *self.named]
        self.stage = Stage(figure, [self.head, self.reward, self.density, *self.rings, self.title, *lines])

    def png(self, path: Path, t: int) -> bytes:
        """A path with round t brought out."""
        curves = path.curves
        self.reward.set_data(path.reward)
        self.density.set_data(_stretched(path.densities[t]))
        self.head.set_text(_head(path, t))
        self.title.set_text(rf"density $p_{{{t}}}$")
        for ring in self.rings:
            ring.set_center(path.setting.centre)
            ring.set_radius(path.setting.r_min)
        self.mean.set_data(curves["round"], curves["mean"])
        self.now.set_data([t], [curves["mean"].iloc[t]])
        self.start.set_data(curves["round"], curves["kl_start"])
        self.limit.set_data(curves["round"], curves["kl_limit"])
        bounded = 0 < path.bound < math.inf
        self.bound.set_data([0, ROUNDS] if bounded else [], [path.bound] * 2 if bounded else [])
        for part in self.named:
            part.set_visible(bounded)
        return self.stage.png()

    def panel(self, x: float, y: float) -> Axes | None:
        """The panel with a circle, reward or density, that a pixel lies on; None beside them."""
        at = self.stage.display(x, y)
        return next((ring.axes for ring in self.rings if ring.axes.bbox.contains(*at)), None)

    def place(self, panel: Axes, x: float, y: float) -> tuple[float, float]:
        """(x1, x2) of a pixel in the data coordinates of a panel, also beyond its edges."""
        across, up = panel.transData.inverted().transform(self.stage.display(x, y))
        return float(across), float(up)


class MenuStage:
    """The curator's picture: a menu on the density, the reward learned so far, the density one round on."""

    width, height = 8.4, 3.15  # inches

    def __init__(self, curator: Curator):
        figure, axes = subplots(1, 3, self.width, self.height)
        blank = np.zeros((curator.cells.size, curator.cells.size))
        titles = ("the model now, and a menu", "your reward, as learned", "the model after a round")
        colours = (HEAT, "viridis", HEAT)
        self.images = [
            _image(axis, blank, curator.cells.extent, colour, title, (0.0, 1.0))
            for axis, colour, title in zip(axes[0], colours, titles, strict=True)
        ]
        style = {"fontweight": "bold", "ha": "center", "va": "center", "fontsize": 10}
        disc = {"boxstyle": "circle,pad=0.25", "facecolor": "white", "edgecolor": START}
        (self.leaders,) = axes[0, 0].plot([], [], "o-", ms=3, lw=1.0, color="white", markevery=3)
        self.letters = [axes[0, 0].text(0, 0, LETTERS[i], bbox=disc, **style) for i in range(curator.k)]
        self.head = figure.suptitle(ROOM)
        self.stage = Stage(figure, [self.head, *self.images, self.leaders, *self.letters])

    def png(self, curator: Curator) -> bytes:
        """The curator's menu, taste and next round as they stand."""
        square = (curator.cells.size, curator.cells.size)
        now, reward, after = (x.reshape(square) for x in (curator.path[-1], curator.reward, curator.after()))
        span = float(np.ptp(reward))
        relative = (reward - reward.min()) / span if span > 0 else np.full_like(reward, 0.5)
        self.head.set_text(f"{setting(curator.k, curator.lam)}, {so_far(curator)}")
        for image, field in zip(self.images, (_stretched(now), relative, _stretched(after)), strict=True):
            image.set_data(field)
        points = curator.cells.points[curator.menu()]
        places = _spread(points, GAP)
        self.leaders.set_data(*np.stack([points, places, np.full_like(points, np.nan)], axis=1).reshape(-1, 2).T)
        for letter, place in zip(self.letters, places, strict=True):
            letter.set_position(place)
        return self.stage.png()

    def letter(self, x: float, y: float) -> int | None:
        """Place on the menu of the letter at a pixel of the last picture; None beside all of them."""
        at = self.stage.display(x, y)
        apart = [math.dist(text.get_transform().transform(text.get_position()), at) for text in self.letters]
        nearest = int(np.argmin(apart))
        return nearest if apart[nearest] <= REACH else None


def states(paths: dict[str, Path], rounds: Sequence[int]) -> Figure:
    """The explorer on paper: a row a story with its reward, its density at some rounds, and its curves."""
    figure, axes = subplots(len(paths), len(rounds) + 3, 1.62 * (len(rounds) + 3) + 0.6, 1.75 * len(paths) + 0.4)
    for row, (name, path) in zip(axes, paths.items(), strict=True):
        _image(row[0], path.reward, path.extent, "viridis", "", (FLOOR, 0.0))
        for axis, t in zip(row[1:], rounds, strict=False):
            _image(axis, _stretched(path.densities[t]), path.extent, HEAT, "", (0.0, 1.0))
        for axis, colour in zip(row[: len(rounds) + 1], ["black"] + ["white"] * len(rounds), strict=True):
            axis.add_patch(Circle(path.setting.centre, path.setting.r_min, fill=False, lw=0.8, color=colour))
            axis.set(xlabel="", ylabel="", xticks=[], yticks=[])
        row[0].set_ylabel(f"{name}\n{_words(path)}", fontsize="medium")
        mean, kl = row[-2:]
        mean.plot(path.curves["round"], path.curves["mean"], color=MEAN, lw=1.2)
        kl.plot(path.curves["round"], path.curves["kl_start"], color=START, lw=1.2)
        kl.plot(path.curves["round"], path.curves["kl_limit"], color=LIMIT, lw=1.2)
        mean.set(ylim=(-0.02, 1.05), xlim=(-0.5, ROUNDS + 0.5), box_aspect=1)
        kl.set(ylim=KL_RANGE, xlim=(-0.5, ROUNDS + 0.5), box_aspect=1)
        kl.set_yscale("log", nonpositive="mask")
    titles = ["reward $r$", *(f"$p_{{{t}}}$" for t in rounds), "$E_{p_t}[e^r]$", "KL, nats"]
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    for axis in axes[-1, -2:]:
        axis.set_xlabel("round $t$")
    handles = [*axes[0, -1].get_lines()]
    figure.legend(handles, [r"KL$(p_t \| p_0)$", r"KL$(p^* \| p_t)$"], loc="outside upper right", ncols=2)
    return figure


def clicks(study: pd.DataFrame) -> Figure:
    """`taste.study` over the number of clicks: a dot a curator, a line through the means."""
    figure, axes = subplots(1, 2, 6.6, 2.7)
    labels = {"agreement": "agreement with the true reward", "distance": "TV distance to the true end"}
    for axis, (column, label) in zip(axes[0], labels.items(), strict=True):
        for (name, part), colour, marker in zip(study.groupby("data"), (START, LIMIT), "os", strict=True):
            axis.plot(part["clicks"], part[column], marker, ms=4, alpha=0.6, color=colour)
            axis.plot(part.groupby("clicks")[column].mean(), color=colour, lw=1.2, marker=marker, ms=0, label=name)
        axis.set(xscale="log", xlabel="clicks", ylabel=label, ylim=(0, 1.02))
        axis.set_xticks(sorted(study["clicks"].unique()), sorted(study["clicks"].unique()))
        axis.minorticks_off()
    axes[0, 0].legend(loc="lower right")
    return figure


def so_far(curator: Curator) -> str:
    """How often a curator has clicked and retrained: "1 click, round 0"."""
    clicks = len(curator.chosen)
    return f"{clicks} click{'' if clicks == 1 else 's'}, round {len(curator.path) - 1}"


def png(pixels: np.ndarray) -> bytes:
    """(height, width, 4) uint8 -> a PNG, packed for speed and not for size."""
    packed = io.BytesIO()
    PIL.Image.fromarray(pixels[..., :3]).save(packed, "png", compress_level=1)
    return packed.getvalue()


def _words(path: Path) -> str:
    return setting(path.setting.k, path.setting.lam, path.setting.gamma)


def _head(path: Path, t: int) -> str:
    return f"{_words(path)}, round {t}"


def _stretched(density: np.ndarray) -> np.ndarray:
    """Square root of a density over its maximum: a mode of 1 % stays visible."""
    return np.sqrt(density / density.max())


def _spread(points: np.ndarray, gap: float) -> np.ndarray:
    """Points pushed apart until hardly two are closer than a gap: (n, 2) -> (n, 2)."""
    turn = 2 * np.pi * np.arange(len(points)) / len(points)
    places = points + 1e-3 * np.stack([np.cos(turn), np.sin(turn)], axis=1)  # equal points part, too
    for _ in range(100):
        way = places[:, None] - places[None]
        apart = np.linalg.norm(way, axis=2)
        near = (apart < gap) & ~np.eye(len(points), dtype=bool)
        push = way * np.where(near, (gap - apart) / (2 * np.maximum(apart, 1e-9)), 0.0)[..., None]
        places += push.sum(axis=1) / np.maximum(near.sum(axis=1), 1)[:, None]
    return places


def _ring(colour: str) -> Circle:
    return Circle((0.0, 0.0), 0.5, fill=False, lw=1.0, color=colour)


def _image(axis, field: np.ndarray, extent: float, colours: str, title: str, limits: tuple[float, float]):
    box = (-extent, extent, -extent, extent)
    low, high = limits
    axis.set(title=title, xticks=[-2, 0, 2], yticks=[-2, 0, 2], xlabel="$x_1$", ylabel="$x_2$")
    return axis.imshow(
        field, origin="lower", extent=box, cmap=colours, vmin=low, vmax=high, interpolation="nearest"
    )


def _over_rounds(axis, label: str, **options) -> None:
    axis.set(xlim=(-0.5, ROUNDS + 0.5), xlabel="retraining round $t$", title=label, **options)
    axis.set_box_aspect(1)  # level with the densities beside it
    axis.xaxis.get_major_locator().set_params(integer=True)
