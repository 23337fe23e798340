"""What is measured each round. One ruler for samples (equal weights) and for exact laws (weights = p)."""

import numpy as np
from scipy import special

from lib.checks import require

LIVE = 0.01  # a mode with less than this share of the samples counts as lost


def shares(labels: np.ndarray, groups: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Share of each group: labels (n,) in 0..groups-1, weights (n,) or None for equal ones -> (groups,)."""
    labels = np.asarray(labels)
    require(len(labels) > 0, "labels", f"{len(labels)} labels", "at least one")
    least, most = int(labels.min()), int(labels.max())
    require(least >= 0 and most < groups, "labels", f"{least}..{most}", f"in 0..{groups - 1}")
    count = np.bincount(labels, weights, minlength=groups).astype(np.float64)
    return count / count.sum()


def live(share: np.ndarray) -> int:
    """Number of groups that keep at least 1 % of the samples."""
    return int(np.sum(np.asarray(share) >= LIVE))


def total_variation(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Half the L1 distance of distributions over the same groups: (..., groups) twice -> (...), in [0, 1]."""
    return 0.5 * np.abs(np.asarray(p) - np.asarray(q)).sum(axis=-1)


def entropy(share: np.ndarray) -> np.ndarray:
    """Shannon entropy in nats: (..., groups) -> (...); log(groups) when uniform, 0 when one group is left."""
    return special.entr(np.asarray(share, dtype=np.float64)).sum(axis=-1)


def spread(x: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Standard deviation a coordinate, pooled over coordinates: points (n, d) -> float, nan for none."""
    if len(x) == 0 or (weights is not None and weights.sum() == 0):
        return float("nan")
    mean = np.average(x, axis=0, weights=weights)
    return float(np.sqrt(np.average(np.mean((x - mean) ** 2, axis=1), weights=weights)))


def reward_moments(reward: np.ndarray, weights: np.ndarray | None = None) -> dict[str, float]:
    """E[r], E[e^r] and Var[e^r] of rewards (n,)."""
    reward = np.asarray(reward, dtype=np.float64)
    value = np.exp(reward)
    mean = float(np.average(value, weights=weights))
    return {
        "mean_reward": float(np.average(reward, weights=weights)),
        "mean_exp_reward": mean,
        "var_exp_reward": float(np.average((value - mean) ** 2, weights=weights)),
    }


def group_columns(labels: np.ndarray, groups: int, weights: np.ndarray | None = None) -> dict[str, float]:
    """share_0, share_1, ..., their entropy and the number of live groups, as columns of a history."""
    share = shares(labels, groups, weights)
    columns = {f"share_{i}": float(s) for i, s in enumerate(share)}
    return columns | {"entropy": float(entropy(share)), "live_groups": live(share)}
