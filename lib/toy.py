"""Two-dimensional data sets with a known density, so that a trained loop has an exact counterpart."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lib.checks import require
from lib.seeds import torch_rng

# The paper fixes 8 modes on a circle of radius 2; widths, flat-top radii and the moons' scale are ours.
MODES, RADIUS, MODE_STD = 8, 2.0, 0.2
MOON_SCALE, MOON_STD, ARCS = 1.6, 0.16, 3


@dataclass(frozen=True)
class Toy:
    """A mixture of equal, round Gaussians whose centres lie on points or on curves.

    Attributes:
        name: "gaussians" or "moons".
        anchors: (a, 2) float64, centres of the Gaussians, fine enough on a curve to be a continuum.
        group: (a,) int64, the mode (or stretch of a moon) that each anchor belongs to.
        std: standard deviation of each Gaussian.
        centre: mu*, the rewarded point.
        r_min: radius of the reward's flat top around it.
    """

    name: str
    anchors: np.ndarray
    group: np.ndarray
    std: float
    centre: tuple[float, float]
    r_min: float

    @property
    def n_groups(self) -> int:
        return int(self.group.max()) + 1

    @property
    def rewarded(self) -> int:
        """The group that holds the rewarded point."""
        return int(self.label(torch.tensor([self.centre]))[0])

    def sample(self, n: int, *, seed: int) -> Tensor:
        """n points, (n, 2) float32."""
        rng = torch_rng(seed)
        anchor = torch.randint(len(self.anchors), (n,), generator=rng)
        centres = torch.as_tensor(self.anchors, dtype=torch.float32)[anchor]
        return centres + self.std * torch.randn(n, 2, generator=rng)

    def label(self, x: Tensor) -> Tensor:
        """The group of the anchor nearest to each point: (n, 2) -> (n,) int64."""
        nearest = [torch.cdist(part.double(), torch.as_tensor(self.anchors)).argmin(1) for part in x.split(8192)]
        return torch.as_tensor(self.group)[torch.cat(nearest)]

    def density(self, x: np.ndarray) -> np.ndarray:
        """Probability density per unit area: (m, 2) -> (m,), float64."""
        total = np.zeros(len(x))
        for centre in self.anchors:
            total += np.exp(-0.5 * np.sum((x - centre) ** 2, axis=1) / self.std**2)
        return total / (len(self.anchors) * 2 * math.pi * self.std**2)


@dataclass(frozen=True)
class Grid:
    """The plane cut into size x size cells, and a toy's law on them.

    Attributes:
        points: (size^2, 2), cell centres; row-major with y outermost.
        prob: (size^2,), the data's probability of each cell, summing to 1.
        labels: (size^2,) int64, group of each cell.
        extent: half width of the square.
        size: cells a side.
    """

    points: np.ndarray
    prob: np.ndarray
    labels: np.ndarray
    extent: float
    size: int


def gaussians() -> Toy:
    """Eight modes on a circle of radius 2; the one at 45 degrees is rewarded."""
    angle = 2 * math.pi * np.arange(MODES) / MODES
    centres = RADIUS * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return Toy("gaussians", centres, np.arange(MODES), MODE_STD, tuple(centres[1].tolist()), 0.5)


def moons() -> Toy:
    """Two interleaved half circles, each cut into three arcs; the top of the upper moon is rewarded."""
    per_arc = 64
    angle = math.pi * (np.arange(ARCS * per_arc) + 0.5) / (ARCS * per_arc)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    lower = np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], axis=1)
    anchors = MOON_SCALE * (np.concatenate([upper, lower]) - np.array([0.5, 0.25]))
    group = np.repeat(np.arange(2 * ARCS), per_arc)
    return Toy("moons", anchors, group, MOON_STD, (-0.5 * MOON_SCALE, 0.75 * MOON_SCALE), 0.5)


TOYS = {"gaussians": gaussians, "moons": moons}


def grid(toy: Toy, size: int, extent: float = 3.0) -> Grid:
    """The data's law on size x size cells covering [-extent, extent]^2 (its mass outside is below 1e-5)."""
    require(isinstance(size, int) and size >= 8, "size", size, "an integer >= 8")
    side = (np.arange(size) + 0.5) / size * 2 * extent - extent
    x, y = np.meshgrid(side, side)
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    prob = toy.density(points)
    return Grid(points, prob / prob.sum(), toy.label(torch.as_tensor(points)).numpy(), extent, size)
