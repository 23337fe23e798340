"""The statements of arXiv:2407.09499 measured on the exact dynamics: a row a round, bound beside value.

No network and no sampling: the toys' laws on a grid for the lemmas and Theorems 2.1, 2.3 and 2.4, on rings around
mu* for the tail of Theorem 2.1, two atoms for the threshold of Theorem 2.4. Theorem 2.2 needs a parametric family
and lives in `lib.parametric`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.optimize import brentq
from torch import Tensor

from lib import curation, metrics, population, rewards, toy
from lib.checks import require
from lib.seeds import derive

GAP = 60.0  # between the two rewards of `threshold`: e^-60 is nothing beside 1 in float64
SETTLED = 1e-9  # a relative change of p(A) in one round below this counts as arrived
SHELLS, INSIDE, ANGLES = 500, 100, 128  # rings around A, circles in it, points on each; doubled, 0.1 % changes
NEAREST, FARTHEST = 1e-5, 6.0  # outer edges of the first and the last ring, from the rim of A
PATIENCE = 20_000  # rounds after which `threshold` stops waiting; its slowest setting here needs about 7,000


@dataclass(frozen=True)
class Scene:
    """A toy data set on a grid, with the distance reward.

    Attributes:
        data: the toy.
        cells: its law on a grid; p_0 = p_ref = cells.prob.
        reward: r of every cell, (size^2,) float64.
        rewards: the same, prepared for many steps.
    """

    data: toy.Toy
    cells: toy.Grid
    reward: np.ndarray
    rewards: population.Rewards

    def square(self, values: np.ndarray) -> np.ndarray:
        """(size^2,) -> (size, size) with y outermost."""
        return values.reshape(self.cells.size, self.cells.size)

    def path(self, k: float, rounds: int, lam: float = math.inf) -> list[np.ndarray]:
        """[p_0, ..., p_rounds] of the loop that starts from p_0 = p_ref."""
        return population.trajectory(self.cells.prob, self.rewards, k, rounds, lam, self.cells.prob)


def scenes(size: int, gamma: float) -> dict[str, Scene]:
    """Both toys on size x size cells, with a reward that falls by gamma per unit of length."""
    found = {}
    for name, make in toy.TOYS.items():
        data = make()
        cells = toy.grid(data, size)
        reward = rewards.distance(torch.as_tensor(cells.points), data.centre, gamma, data.r_min).numpy()
        found[name] = Scene(data, cells, reward, population.Rewards(reward))
    return found


def luce(reward: Tensor, replays: int, *, seed: int) -> pd.DataFrame:
    """One menu shown `replays` times: Luce's probability of each sample beside how often it was kept.

    Args:
        reward: r of the samples on the menu, (k,).
        replays: independent choices, >= 1.
        seed: of the first choice.

    Returns:
        A row a sample: reward, law, kept (a frequency), error (its standard error under the law).
    """
    choices = [
        curation.k_choice(reward, len(reward), 1, seed=derive(seed, "replay", index=i)) for i in range(replays)
    ]
    law = torch.softmax(reward.double(), 0).numpy()
    kept = metrics.shares(torch.cat(choices).numpy(), len(reward))
    error = np.sqrt(law * (1 - law) / replays)
    rated = reward.numpy() + 0.0  # the top of a reward is -0.0, which a table would print
    return pd.DataFrame({"reward": rated, "law": law, "kept": kept, "error": error})


def round_table(scene: Scene, paths: dict[str, Sequence[np.ndarray]], rounds: Iterable[int]) -> pd.DataFrame:
    """Share of every group, and mass on the top level set, at some rounds of each named loop."""
    rows = []
    for loop, path in paths.items():
        for t in rounds:
            share = metrics.shares(scene.cells.labels, scene.data.n_groups, path[t])
            top = float(path[t][scene.reward == 0].sum())
            rows.append(
                {"loop": loop, "round": t, "top_mass": top, **{f"share_{i}": s for i, s in enumerate(share)}}
            )
    return pd.DataFrame(rows)


def heat_table(scenes: dict[str, Scene], squares: int = 32) -> pd.DataFrame:
    """The heat maps in numbers, on squares x squares blocks: mean reward, and the mass of p_0 and of p*."""
    tables = []
    for name, scene in scenes.items():
        width = 2 * scene.cells.extent / squares
        block = np.floor((scene.cells.points + scene.cells.extent) / width).astype(int)
        middle = (block + 0.5) * width - scene.cells.extent
        limit = population.limit(scene.cells.prob, scene.reward)
        table = pd.DataFrame({"x1": middle[:, 0], "x2": middle[:, 1], "reward": scene.reward})
        table = table.assign(initial=scene.cells.prob, limit=limit).groupby(["x2", "x1"], as_index=False)
        table = table.agg({"reward": "mean", "initial": "sum", "limit": "sum"})
        tables.append(table.assign(data=name))
    return pd.concat(tables, ignore_index=True)


def lemma_2_1(scenes: dict[str, Scene], ks: Sequence[int], rounds: Sequence[int]) -> pd.DataFrame:
    """L1 distance from p_t at menu size K to p_0 e^{t r} / Z: columns data, k, round, distance."""
    rows = []
    for name, scene in scenes.items():
        for k in ks:
            path = scene.path(k, max(rounds))
            for t in rounds:
                distance = np.abs(path[t] - population.tilt(scene.cells.prob, scene.reward, t)).sum()
                rows.append({"data": name, "k": k, "round": t, "distance": float(distance)})
    return pd.DataFrame(rows)


def pure_loop(scenes: dict[str, Scene], ks: Sequence[float], rounds: int) -> pd.DataFrame:
    """Lemma 2.2 and Theorem 2.1 along the curated-only loop.

    Returns:
        A row for each data set, K and round t: mean and var (of e^r under p_t), gain (of mean over round t - 1)
        beside bound (Lemma 2.2, from p_{t-1}), kl = KL(p* || p_t). gain and bound are nan in round 0.
    """
    rows = []
    for name, scene in scenes.items():
        limit = population.limit(scene.cells.prob, scene.reward)
        for k in ks:
            before, bound = math.nan, math.nan
            for t, prob in enumerate(scene.path(k, rounds)):
                mean, var = population.exp_reward_moments(prob, scene.reward)
                row = {"data": name, "k": k, "round": t, "mean": mean, "var": var}
                rows.append(row | {"gain": mean - before, "bound": bound, "kl": population.kl(limit, prob)})
                before, bound = mean, population.lemma_2_2_gain(prob, scene.reward, k)
    return pd.DataFrame(rows)


def shells(data: toy.Toy) -> tuple[np.ndarray, np.ndarray]:
    """p_0 by the distance from mu*, all that the distance reward depends on.

    Which cells of a square grid lie just outside A is an accident of the grid, and the end of the loop hangs on
    them; rings can be as narrow there as the end asks for.

    Returns:
        Distance from the rim of A, (SHELLS + 1,), 0 for A itself; and the mass there, summing to 1.
    """
    edges = np.concatenate([[0.0], np.geomspace(NEAREST, FARTHEST, SHELLS)])
    beyond = (edges[1:] + edges[:-1]) / 2
    inside = data.r_min * (np.arange(INSIDE) + 0.5) / INSIDE
    top = data.r_min * _on_circles(data, inside).mean()
    mass = np.concatenate([[top], _on_circles(data, data.r_min + beyond) * np.diff(edges)])
    return np.concatenate([[0.0], beyond]), mass / mass.sum()


def rim_constant(data: toy.Toy, gamma: float, top: float) -> float:
    """Where t (K-1)/K KL(p* || p_t) goes in the curated-only loop, for every K.

    Late in the loop p_t / p_0 falls with the distance s from A like e^{-gamma s t (K-1)/K}, so the mass outside A,
    and with it KL, is (p_0 on the rim of A, per unit of width) / (gamma t (K-1)/K P_0(A)).

    Args:
        data: the toy.
        gamma: slope of its reward, > 0.
        top: P_0(A).
    """
    return float(_on_circles(data, np.array([data.r_min]))[0] / (gamma * top))


def collapse(gamma: float, ks: Sequence[float], rounds: int) -> pd.DataFrame:
    """Theorem 2.1 along the curated-only loop on `shells`: for each data set, K and round t >= 0 a row.

    Returns:
        Columns data, k, round, kl = KL(p* || p_t), rescaled = t (K-1)/K kl, limit = `rim_constant`.
    """
    rows = []
    for name, make in toy.TOYS.items():
        data = make()
        beyond, mass = shells(data)
        reward, limit = population.Rewards(-gamma * beyond), rim_constant(data, gamma, mass[0])
        for k in ks:
            share = 1.0 if math.isinf(k) else (k - 1) / k
            for t, prob in enumerate(population.trajectory(mass, reward, k, rounds)):
                kl = -math.log(prob[0])  # the loop keeps the shape of p_0 on A
                row = {"data": name, "k": k, "round": t, "kl": kl}
                rows.append(row | {"rescaled": t * share * kl, "limit": limit})
    return pd.DataFrame(rows)


def mixed_loop(scenes: dict[str, Scene], settings: Iterable[tuple[int, float]], rounds: int) -> pd.DataFrame:
    """Theorems 2.3 and 2.4 along the loop with real data.

    Args:
        scenes: where.
        settings: pairs (K, lambda).
        rounds: T.

    Returns:
        A row for each data set, setting and round t >= 1: gain = E_{p_t}[e^r] - E_{p_ref}[e^r] beside gain_bound
        (Theorem 2.3), kl = KL(p_t || p_ref) beside kl_bound (Theorem 2.4; inf where it says nothing).
    """
    rows = []
    settings = list(settings)
    for name, scene in scenes.items():
        ref = scene.cells.prob
        start, _ = population.exp_reward_moments(ref, scene.reward)
        for k, lam in settings:
            bounds = {
                "gain_bound": population.theorem_2_3_gain(ref, scene.reward, k, lam),
                "kl_bound": population.theorem_2_4_bound(k, lam),
            }
            for t, prob in enumerate(scene.path(k, rounds, lam)[1:], start=1):
                mean, _ = population.exp_reward_moments(prob, scene.reward)
                row = {"data": name, "k": k, "lam": lam, "pressure": round(lam * (k - 1), 12), "round": t}
                rows.append(row | {"gain": mean - start, "kl": population.kl(prob, ref)} | bounds)
    return pd.DataFrame(rows)


def threshold(ks: Sequence[int], pressures: Sequence[float], shares: Sequence[float]) -> pd.DataFrame:
    """Where a rewarded set A of small probability ends in the mixed loop, around lambda = 1 / (K - 1).

    Two atoms, A with r = 0 and the rest with r = -GAP: A is kept whenever it is on the menu. Then
    p(A) <- share / (1 + lambda) + lambda / (1 + lambda) * (1 - (1 - p(A))^K), whose fixed point is `solved`.

    Args:
        ks: menu sizes, >= 2.
        pressures: values of lambda (K - 1); the threshold is at 1.
        shares: p_ref(A), in (0, 1).

    Returns:
        A row for each K, pressure and share: reached = p(A) after the loop settled, solved = the root of the
        scalar equation, ratio = reached / share, kl = KL(p_t || p_ref) at the end, bound (Theorem 2.4), rounds.
    """
    rows = []
    reward = population.Rewards(np.array([0.0, -GAP]))
    for k in ks:
        for pressure in pressures:
            lam = pressure / (k - 1)
            for share in shares:
                ref = np.array([share, 1 - share])
                prob, rounds = _settle(ref, reward, k, lam)
                row = {"k": k, "pressure": pressure, "lam": lam, "share": share, "reached": prob[0]}
                row |= {
                    "solved": _fixed_point(k, lam, share),
                    "ratio": prob[0] / share,
                    "kl": population.kl(prob, ref),
                }
                rows.append(row | {"bound": population.theorem_2_4_bound(k, lam), "rounds": rounds})
    return pd.DataFrame(rows)


def tail_slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Slope of log y over log x by least squares: -1 for y ~ 1/x."""
    return float(np.polyfit(np.log(np.asarray(x)), np.log(np.asarray(y)), 1)[0])


def _on_circles(data: toy.Toy, radius: np.ndarray) -> np.ndarray:
    """Probability of the data per unit of radius on circles around mu*: (n,) -> (n,)."""
    angle = 2 * math.pi * np.arange(ANGLES) / ANGLES
    way = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = np.array(data.centre) + radius[:, None, None] * way
    density = data.density(points.reshape(-1, 2)).reshape(len(radius), ANGLES)
    return 2 * math.pi * radius * density.mean(axis=1)


def _settle(ref: np.ndarray, reward: population.Rewards, k: int, lam: float) -> tuple[np.ndarray, int]:
    prob = ref
    for t in range(1, PATIENCE + 1):
        after = population.step(prob, reward, k, lam, ref)
        if abs(after[0] - prob[0]) <= SETTLED * prob[0]:
            return after, t
        prob = after
    require(False, "lam", lam, f"further from 1 / (K - 1): not settled after {PATIENCE} rounds")


def _fixed_point(k: int, lam: float, share: float) -> float:
    def excess(p: float) -> float:
        chosen = 1.0 if p == 1 else -math.expm1(k * math.log1p(-p))
        return (share + lam * chosen) / (1 + lam) - p

    return brentq(excess, share, 1.0, xtol=1e-18, rtol=1e-13)
