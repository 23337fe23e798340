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
NEUTRAL = 20_000  # sets of loops behind a quantile, which then errs by half a percent


def trajectory(
    prob_0: np.ndarray,
    reward: "np.ndarray | Rewards",
    k: int,
    rounds: int,
    n_keep: int,
    rng: np.random.Generator,
    lam: float = math.inf,
    prob_ref: np.ndarray | None = None,
    n_pool: int | None = None,
) -> list[np.ndarray]:
    """[p_0, ..., p_rounds]: p_{t+1} is the empirical law of n_keep curated samples of p_t, with p_ref mixed in.

    Samples kept from menus that share none ("disjoint", see `curation.k_choice`) are independent draws from
    p_t H^K, so each round is the exact step and then n_keep draws. Menus that are drawn with replacement
    ("resample") share a pool: its n_pool samples are drawn first, and the step starts from their empirical law.

    Args:
        prob_0: p_0 on atoms, (n,), >= 0, summing to 1.
        reward: r of each atom, or `Rewards`.
        k: menu size K, an integer >= 1.
        rounds: T, >= 0.
        n_keep: samples kept each round, >= 1.
        rng: of the draws.
        lam: synthetic to real ratio lambda; math.inf is the pure loop.
        prob_ref: p_ref, needed unless lam is math.inf.
        n_pool: samples that all menus of a round are drawn from, >= 1; None where menus share none.
    """
    require(isinstance(n_keep, int) and n_keep >= 1, "n_keep", n_keep, "an integer >= 1")
    require(n_pool is None or n_pool >= 1, "n_pool", n_pool, ">= 1, or None")
    rewards = reward if isinstance(reward, Rewards) else Rewards(reward)
    path = [np.asarray(prob_0, dtype=np.float64)]
    for _ in range(rounds):
        shown = path[-1] if n_pool is None else rng.multinomial(n_pool, path[-1]) / n_pool
        kept = rng.multinomial(n_keep, step(shown, rewards, k)) / n_keep
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
        mixed: `lam`, `prob_ref` and `n_pool` of `trajectory`.
    """
    rows = []
    for repeat in range(repeats):
        rng = np.random.default_rng(derive(seed, "finite", index=repeat))
        for t, prob in enumerate(trajectory(*loop, rng, **mixed)):
            seen = rng.multinomial(n_seen, prob) / n_seen
            rows.append({"repeat": repeat, "round": t} | columns(seen))
    return pd.DataFrame(rows)


def neutral(shares: np.ndarray, rounds: int, n_keep: int, n_pool: int, runs: int, menus: str) -> np.ndarray:
    """Shares of groups after loops of a perfect model in which nothing is chosen.

    Args:
        shares: at round 0, (groups,).
        rounds: T, >= 0.
        n_keep: samples kept each round, >= 1.
        n_pool: samples drawn each round, on which shares are measured, >= 1.
        runs: independent loops in a set, >= 1.
        menus: "disjoint" or "resample"; see `trajectory` for what it changes.

    Returns:
        (NEUTRAL, runs, groups): as many sets of runs.
    """
    rng = np.random.default_rng(derive(0, "neutral"))
    now = np.broadcast_to(np.asarray(shares, dtype=np.float64), (NEUTRAL, runs, len(shares)))
    draws = [n_keep] if menus == "disjoint" else [n_pool, n_keep]
    for n in [*draws * rounds, n_pool]:  # the last draw is the measurement
        now = rng.multinomial(n, now) / n
    return now
