"""A reward learned from clicks, and the exact loop taken with it.

A click keeps one of K points. Luce's rule with a reward linear in features, r(x) = w . phi(x), makes the clicks a
multinomial logit: its log-likelihood is concave, and a Gaussian prior on w makes the best w unique. For K = 2 it
is the Bradley-Terry model by which reward models are fitted to people's comparisons.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from scipy.special import logsumexp

from lib import explorer, metrics, population, toy
from lib.checks import require
from lib.curation import k_choice
from lib.seeds import derive

KNOTS = np.linspace(-3.0, 3.0, 7)  # the features are bumps on a 7 x 7 lattice
WIDTH = 1.0  # standard deviation of a bump: as wide as the lattice is coarse
PRIOR_STD = 3.0  # of each weight, in units of reward
NEWTON_STEPS = 50
SETTLED = 1e-10  # a Newton step below this, in every weight, ends the fit


def features(points: np.ndarray) -> np.ndarray:
    """Gaussian bumps around the lattice: (n, 2) -> (n, 49), in [0, 1]."""
    bumps = [np.exp(-0.5 * ((points[:, [axis]] - KNOTS) / WIDTH) ** 2) for axis in (0, 1)]
    return (bumps[0][:, :, None] * bumps[1][:, None, :]).reshape(len(points), -1)


def fit(menus: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The most probable weights, by Newton's method with halved steps.

    Args:
        menus: features of what was shown, (clicks, k, m); no clicks give the prior's mean, 0.
        chosen: place on the menu of what was kept, (clicks,) integers in 0..k-1.

    Returns:
        w, (m,).
    """
    require(menus.ndim == 3 and len(menus) == len(chosen), "menus.shape", menus.shape, f"({len(chosen)}, k, m)")
    weights = np.zeros(menus.shape[2])
    best = _loss(weights, menus, chosen)
    for _ in range(NEWTON_STEPS):
        step = _newton_step(weights, menus, chosen)
        if np.abs(step).max(initial=0.0) < SETTLED:
            break
        while (loss := _loss(weights - step, menus, chosen)) > best and np.abs(step).max() > SETTLED:
            step = step / 2
        weights, best = weights - step, min(loss, best)
    return weights


def _loss(weights: np.ndarray, menus: np.ndarray, chosen: np.ndarray) -> float:
    reward = menus @ weights
    kept = reward[np.arange(len(chosen)), chosen]
    return float(np.sum(logsumexp(reward, axis=1) - kept) + 0.5 * weights @ weights / PRIOR_STD**2)


def _newton_step(weights: np.ndarray, menus: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    reward = menus @ weights
    prob = np.exp(reward - logsumexp(reward, axis=1, keepdims=True))
    mean = np.einsum("ck,ckm->cm", prob, menus)
    gradient = np.sum(mean - menus[np.arange(len(chosen)), chosen], axis=0) + weights / PRIOR_STD**2
    second = np.einsum("ck,ckm,ckn->mn", prob, menus, menus, optimize=True) - mean.T @ mean
    return np.linalg.solve(second + np.eye(len(weights)) / PRIOR_STD**2, gradient)


class Curator:
    """A loop whose reward is learned while it runs. Clicks of all rounds count: a choice depends on its menu only.

    Args:
        data: a key of `toy.TOYS`.
        k: points on a menu, >= 2; also the K of the loop.
        lam: synthetic to real ratio of the loop.
        seed: of the menus.
    """

    def __init__(self, data: str = "gaussians", k: int = 4, lam: float = np.inf, seed: int = 0):
        require(isinstance(k, int) and k >= 2, "k", k, "an integer >= 2")
        self.cells = explorer.law(data)
        self.known = features(self.cells.points)
        self.k, self.lam, self.seed = k, lam, seed
        self.path = [self.cells.prob]  # p_0 .. p_t, each (size^2,)
        self.menus: list[np.ndarray] = []  # cells shown at each click, (k,) int64
        self.chosen: list[int] = []
        self._weights: np.ndarray | None = None  # fitted when asked for, forgotten at the next click

    @property
    def weights(self) -> np.ndarray:
        """w fitted to all clicks so far, (m,)."""
        if self._weights is None:
            menus = np.array(self.menus, dtype=np.int64).reshape(-1, self.k)
            self._weights = fit(self.known[menus], np.array(self.chosen, dtype=np.int64))
        return self._weights

    @property
    def reward(self) -> np.ndarray:
        """The reward learned so far at every cell, (size^2,)."""
        return self.known @ self.weights

    def menu(self) -> np.ndarray:
        """The cells of the menu now on show: k independent draws from p_t, the same until it is answered."""
        rng = np.random.default_rng(derive(self.seed, "click", round=len(self.path) - 1, index=len(self.chosen)))
        return rng.choice(len(self.cells.prob), size=self.k, p=self.path[-1])

    def click(self, place: int) -> None:
        """Keep the point at a place on the menu (0..k-1), and learn from it."""
        require(0 <= place < self.k, "place", place, f"in 0..{self.k - 1}")
        self.menus.append(self.menu())
        self.chosen.append(place)
        self._weights = None

    def after(self) -> np.ndarray:
        """p_{t+1} with the reward learned so far, (size^2,)."""
        return population.step(self.path[-1], self.reward, self.k, self.lam, self.cells.prob)

    def take_round(self) -> None:
        """Retrain on choices made by the learned reward."""
        self.path.append(self.after())


def simulate(curator: Curator, reward: np.ndarray, clicks: int, rounds: int) -> None:
    """A curator made of numbers: clicks by Luce's rule with a known reward, then some rounds.

    Args:
        curator: what is clicked; changed in place.
        reward: the true r of every cell, (size^2,).
        clicks: how many, all on p_0 as the curator stands.
        rounds: taken after the last click.
    """
    for i in range(clicks):
        shown = torch.as_tensor(reward[curator.menu()])
        curator.click(int(k_choice(shown, curator.k, 1, seed=derive(curator.seed, "taste", index=i))))
    for _ in range(rounds):
        curator.take_round()


def agreement(prob: np.ndarray, learned: np.ndarray, true: np.ndarray) -> float:
    """Correlation of two rewards under a law: 1 where one is the other, shifted and scaled. All (cells,)."""
    a, b = (r - np.sum(prob * r) for r in (learned, true))
    return float(np.sum(prob * a * b) / np.sqrt(np.sum(prob * a * a) * np.sum(prob * b * b)))


def study(clicks: Sequence[int], seeds: Iterable[int], gamma: float, rounds: int) -> pd.DataFrame:
    """How good a loop with a learned reward is: synthetic curators against the loop with their true reward.

    Args:
        clicks: how many clicks the reward is learned from.
        seeds: of the curators.
        gamma: slope of the true reward; its centre and flat top are the data set's own.
        rounds: of both loops, curated data only.

    Returns:
        A row for each data set, number of clicks and seed: agreement (`agreement` under p_0), distance (total
        variation between the groups' shares at the end), same_place (the largest group at the end is the same).
    """
    seeds, rows = list(seeds), []
    for data in toy.TOYS:
        home = explorer.at_home(data)
        true = explorer.path(replace(home, gamma=gamma), rounds=rounds)
        reward, end = true.reward.ravel(), true.densities[-1].ravel()
        for n, seed in itertools.product(clicks, seeds):
            curator = Curator(data, k=home.k, seed=seed)
            simulate(curator, reward, n, rounds)
            labels, groups = curator.cells.labels, int(curator.cells.labels.max()) + 1
            ours, theirs = (metrics.shares(labels, groups, p) for p in (curator.path[-1], end))
            row = {"data": data, "clicks": n, "seed": seed}
            row["agreement"] = agreement(curator.path[0], curator.reward, reward)
            row["distance"] = float(metrics.total_variation(ours, theirs))
            rows.append(row | {"same_place": bool(ours.argmax() == theirs.argmax())})
    return pd.DataFrame(rows)
