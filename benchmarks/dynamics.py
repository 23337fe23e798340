"""A step of the exact dynamics on grids and pools, beside Monte Carlo over menus."""

import numpy as np
import pandas as pd
import torch

from benchmarks.timing import alternate, once
from lib import population, toy
from lib import rewards as reward_functions
from lib.curation import k_choice

K = 4
MENUS = (10**4, 10**5, 10**6, 10**7)  # drawn by Monte Carlo


def run(_device: str) -> pd.DataFrame:
    """Seconds a step with prepared rewards, one core; in float64 on the CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = [_step(f"grid {side}x{side}", *_grid(side)) for side in (128, 256, 512, 1024)]
    rng = np.random.default_rng(0)
    rows += [_step(f"pool of {n:,}", np.full(n, 1 / n), rng.normal(size=n)) for n in (10**3, 10**4, 10**5, 10**6)]
    torch.set_num_threads(before)
    return pd.DataFrame(rows)


def monte_carlo(_device: str) -> pd.DataFrame:
    """The law after one round on three atoms: error and seconds of the exact step, and of drawn menus."""
    prob, reward = np.array([0.6, 0.3, 0.1]), np.array([0.0, 1.0, 2.0])
    exact = population.step(prob, reward, K)
    brute = _brute_force(prob, reward)
    seconds = alternate({"exact": lambda: population.step(prob, reward, K)}, repeats=21)["seconds"].iloc[0]
    rows = [{"method": "exact", "menus": 0, "seconds": seconds, "error": np.abs(exact - brute).max()}]
    for menus in MENUS:
        found = {}

        def draw(menus=menus, found=found) -> None:
            atoms = torch.as_tensor(np.random.default_rng(menus).choice(len(prob), K * menus, p=prob))
            kept = atoms[k_choice(torch.as_tensor(reward)[atoms], K, menus, seed=menus)]
            found["prob"] = np.bincount(kept.numpy(), minlength=3) / menus

        rows.append(
            {
                "method": "Monte Carlo",
                "menus": menus,
                "seconds": once(draw),
                "error": np.abs(found["prob"] - brute).max(),
            }
        )
    return pd.DataFrame(rows)


def _grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    data = toy.gaussians()
    cells = toy.grid(data, side)
    reward = reward_functions.distance(torch.as_tensor(cells.points), data.centre, 10.0, data.r_min)
    return cells.prob, reward.numpy()


def _step(name: str, prob: np.ndarray, reward: np.ndarray) -> dict:
    found = {}
    set_up = once(lambda: found.update(prepared=population.Rewards(reward)))
    timed = alternate({name: lambda: population.step(prob, found["prepared"], K)}, repeats=11).iloc[0]
    return {
        "atoms": name,
        "set-up": set_up,
        "seconds": timed["seconds"],
        "least": timed["least"],
        "greatest": timed["greatest"],
    }


def _brute_force(prob: np.ndarray, reward: np.ndarray) -> np.ndarray:
    """The same law by the sum over all menus of four."""
    law = np.zeros(len(prob))
    for menu in np.ndindex(*[len(prob)] * K):
        odds = np.exp(reward[list(menu)])
        np.add.at(law, list(menu), prob[list(menu)].prod() * odds / odds.sum())
    return law
