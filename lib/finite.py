"""The loop of a perfect model on finitely many samples: what chance alone does to it.

In the exact dynamics (`population`) nothing is drawn. A loop that keeps n samples a round draws them, and even a
model that reproduces its training set perfectly then wanders: without any choice the shares of groups drift like
gene frequencies in a small population (Wright, 1931, Genetics 16). What lies within this drift is no model error.
"""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from lib.checks import require
from lib.population import Rewards, mix, step
from lib.seeds import derive

REPEATS = 20  # loops behind a band
NEUTRAL = 2000  # sets of loops behind a quantile


def trajectory(
    prob_0: np.ndarray,
    reward: "np.ndarray | Rewards",
    k: int,
    rounds: int,
    n_keep: int,
    rng: np.random.Generator,
    lam: float = math.inf,
    prob_ref: np.ndarray | None = None,
) -> list[np.ndarray]:
    """[p_0, ..., p_rounds]: p_{t+1} is the empirical law of n_keep curated samples of p_t, with p_ref mixed in.

    Samples kept from menus that share none are independent draws from p_t H^K, so each round is the exact step
    and then n_keep draws.

    Args:
        prob_0: p_0 on atoms, (n,), >= 0, summing to 1.
        reward: r of each atom, or `Rewards`.
        k: menu size K, an integer >= 1.
        rounds: T, >= 0.
        n_keep: samples kept each round, >= 1.
        rng: of the draws.
        lam: synthetic to real ratio lambda; math.inf is the pure loop.
        prob_ref: p_ref, needed unless lam is math.inf.
    """
    require(isinstance(n_keep, int) and n_keep >= 1, "n_keep", n_keep, "an integer >= 1")
    rewards = reward if isinstance(reward, Rewards) else Rewards(reward)
    path = [np.asarray(prob_0, dtype=np.float64)]
    for _ in range(rounds):
        kept = rng.multinomial(n_keep, step(path[-1], rewards, k)) / n_keep
        path.append(mix(kept, lam, prob_ref))
    return path


def histories(
    columns: Callable[[np.ndarray], dict[str, float]],
    n_seen: int,
    *loop,
    seed: int,
    repeats: int = REPEATS,
    **mixed,
) -> pd.DataFrame:
    """What one would measure in such loops: `repeats` histories in one table with columns repeat and round.

    Args:
        columns: weights of the atoms -> what is measured.
        n_seen: samples on which each round is measured, >= 1.
        loop: the arguments of `trajectory` before `rng`.
        seed: of the first of the repeats.
        repeats: number of loops, >= 1.
        mixed: `lam` and `prob_ref` of `trajectory`.
    """
    rows = []
    for repeat in range(repeats):
        rng = np.random.default_rng(derive(seed, "finite", index=repeat))
        for t, prob in enumerate(trajectory(*loop, rng, **mixed)):
            seen = rng.multinomial(n_seen, prob) / n_seen
            rows.append({"repeat": repeat, "round": t} | columns(seen))
    return pd.DataFrame(rows)


def neutral(shares: np.ndarray, rounds: int, n_keep: int, runs: int) -> np.ndarray:
    """Shares of groups, measured on n_keep samples, after loops of a perfect model in which nothing is chosen.

    Args:
        shares: at round 0, (groups,).
        rounds: T, >= 0.
        n_keep: samples kept, and samples seen, each round, >= 1.
        runs: independent loops in a set, >= 1.

    Returns:
        (NEUTRAL, runs, groups): as many sets of runs.
    """
    rng = np.random.default_rng(derive(0, "neutral"))
    now = np.broadcast_to(np.asarray(shares, dtype=np.float64), (NEUTRAL, runs, len(shares)))
    for _ in range(rounds + 1):  # the last draw is the measurement
        now = rng.multinomial(n_keep, now) / n_keep
    return now
