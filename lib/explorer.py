"""The exact loop at any setting, fast enough to follow a slider: a coarse grid, few rounds, each path kept.

Pure functions; what is drawn stands in `lib.stage`, the sliders in `lib.controls`.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
import torch

from lib import population, toy
from lib.checks import require
from lib.rewards import distance

SIZE = 96  # cells a side; the notebook checks its curves against the profile's grid
ROUNDS = 15  # T: enough to see where a loop goes, few enough for a slider
KEPT = 64  # paths remembered, about 2 MB each


@dataclass(frozen=True)
class Setting:
    """Everything that determines a loop.

    Attributes:
        data: a key of `toy.TOYS`.
        k: menu size K, an integer >= 1, or math.inf.
        lam: synthetic to real ratio lambda, >= 0, or math.inf for curated data only.
        gamma: slope of the reward, per unit of length, >= 0.
        r_min: radius of the reward's flat top, >= 0.
        centre: the rewarded point.
    """

    data: str = "gaussians"
    k: float = 4
    lam: float = math.inf
    gamma: float = 10.0
    r_min: float = 0.5
    centre: tuple[float, float] = (1.4, 1.4)


@dataclass(frozen=True)
class Path:
    """A loop from p_0 = p_ref, round by round.

    Attributes:
        setting: what it belongs to.
        extent: half width of the square.
        reward: r of each cell, (size, size), y outermost.
        densities: p_0 .. p_T, (T + 1, size, size), each summing to 1.
        curves: a row a round: round, mean = E[e^r], kl_start = KL(p_t || p_0), kl_limit = KL(p* || p_t).
        bound: Theorem 2.4's bound on kl_start; math.inf where it gives none.
    """

    setting: Setting
    extent: float
    reward: np.ndarray
    densities: np.ndarray
    curves: pd.DataFrame
    bound: float


# What the static panel shows and the explorer offers by name.
STORIES = {
    "curated only": Setting(),
    "with real data": Setting(lam=1.0),
    "a mild preference": Setting(gamma=0.5),
    "where data are rare": Setting(centre=(1.85, 0.75), r_min=0.3),
    "two moons": Setting("moons", centre=(-0.8, 1.2)),
}


@lru_cache(KEPT)
def path(setting: Setting, size: int = SIZE, rounds: int = ROUNDS) -> Path:
    """The exact loop at a setting, on size x size cells."""
    require(setting.data in toy.TOYS, "data", setting.data, f"one of {', '.join(toy.TOYS)}")
    require(setting.lam >= 0, "lam", setting.lam, ">= 0 (math.inf for curated data only)")
    cells = law(setting.data, size)
    reward = distance(torch.as_tensor(cells.points), setting.centre, setting.gamma, setting.r_min).numpy()
    steps = population.trajectory(cells.prob, reward, setting.k, rounds, setting.lam, cells.prob)
    end = population.limit(cells.prob, reward)
    rows = [
        (t, population.exp_reward_moments(p, reward)[0], population.kl(p, cells.prob), population.kl(end, p))
        for t, p in enumerate(steps)
    ]
    curves = pd.DataFrame(rows, columns=["round", "mean", "kl_start", "kl_limit"])
    bound = math.inf if math.isinf(setting.k) else population.theorem_2_4_bound(setting.k, setting.lam)
    square = (size, size)
    return Path(setting, cells.extent, reward.reshape(square), np.reshape(steps, (-1, *square)), curves, bound)


@lru_cache(8)
def law(data: str, size: int = SIZE) -> toy.Grid:
    """A toy's law on size x size cells."""
    return toy.grid(toy.TOYS[data](), size)


def at_home(data: str) -> Setting:
    """The default loop on a data set, with the reward where that set has it (rounded to a slider's step)."""
    known = toy.TOYS[data]()
    return Setting(data, centre=tuple(round(x, 1) for x in known.centre), r_min=known.r_min)


def table(paths: dict[str, Path]) -> pd.DataFrame:
    """The curves of several paths, one below the other, with their settings."""
    parts = [
        p.curves.assign(story=name, **{key: str(value) for key, value in vars(p.setting).items()})
        for name, p in paths.items()
    ]
    return pd.concat(parts, ignore_index=True)


def coarseness(settings: dict[str, Setting], size: int) -> pd.DataFrame:
    """How far the explorer's E[e^r] lies from that on size x size cells: largest |difference| of any round."""
    rows = [
        (name, float((path(s).curves["mean"] - path(s, size).curves["mean"]).abs().max()))
        for name, s in settings.items()
    ]
    return pd.DataFrame(rows, columns=["story", "difference"])
