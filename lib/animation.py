"""A loop as a moving picture: the exact densities, curated only beside mixed with real data, round by round."""

import io
from collections.abc import Iterable, Sequence

import numpy as np
import PIL.Image
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.patches import Circle

from lib.figures import ARM_COLOURS, ARM_NAMES, HEAT, heat_map, subplots

FRAME = 550  # milliseconds a round is shown
REST = 2500  # milliseconds the last round is shown
DPI = 80
HEAT_SHADES, EDGE_SHADES = 128, 16  # in the palette that all frames share: of the density, of each line or text


def loop_gif(
    fields: dict[str, Sequence[np.ndarray]], centre: tuple[float, float], r_min: float, extent: float
) -> bytes:
    """A GIF that runs for ever.

    Args:
        fields: for each arm, p_0 .. p_T, each (size, size) with y outermost.
        centre: the rewarded point.
        r_min: radius of the reward's flat top, drawn as a circle.
        extent: half width of the square.
    """
    length = len(next(iter(fields.values())))
    frames = [
        _frame({arm: densities[t] for arm, densities in fields.items()}, t, centre, r_min, extent)
        for t in range(length)
    ]
    palette = _palette(fields)
    flat = [frame.quantize(palette=palette, dither=PIL.Image.Dither.NONE) for frame in frames]
    packed = io.BytesIO()
    durations = [FRAME] * (length - 1) + [REST]
    flat[0].save(packed, "gif", save_all=True, append_images=flat[1:], duration=durations, loop=0, optimize=True)
    return packed.getvalue()


def _palette(arms: Iterable[str]) -> PIL.Image.Image:
    """The density's colours, and the way from white to black and to each arm's colour (smoothed edges)."""
    to_white = np.linspace(0.0, 1.0, EDGE_SHADES)[:, None]
    inks = ["black", *(ARM_COLOURS[arm] for arm in arms)]
    edges = [to_white + (1 - to_white) * np.array(to_rgb(ink)) for ink in inks]
    heat = colormaps[HEAT](np.linspace(0.0, 1.0, HEAT_SHADES))[:, :3]
    palette = PIL.Image.new("P", (1, 1))
    palette.putpalette(np.rint(255 * np.concatenate([*edges, heat])).astype(np.uint8).tobytes())
    return palette


def _frame(
    densities: dict[str, np.ndarray], t: int, centre: tuple[float, float], r_min: float, extent: float
) -> PIL.Image.Image:
    figure, axes = subplots(1, len(densities), 2.9 * len(densities), 3.1)
    for axis, (arm, density) in zip(axes[0], densities.items(), strict=True):
        heat_map(axis, density, extent)
        axis.add_patch(Circle(centre, r_min, fill=False, lw=0.8, color="white"))
        axis.set(xlabel="", ylabel="", xticks=[-2, 0, 2], yticks=[-2, 0, 2])
        axis.set_title(ARM_NAMES[arm], color=ARM_COLOURS[arm], fontweight="bold")
    figure.suptitle(f"round {t}" if t else "round 0: the data", fontsize=11)
    figure.set_dpi(DPI)
    figure.get_layout_engine().set(h_pad=0.08)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return PIL.Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
