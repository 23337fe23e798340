"""The rewards r(x) of the paper's experiments. Choices depend on e^r: r has no unit, but a scale, gamma."""

import math

import torch
from torch import Tensor

from lib.checks import require


def distance(x: Tensor, centre: tuple[float, ...], gamma: float, r_min: float) -> Tensor:
    """r(x) = -gamma * max(0, |x - centre| - r_min): maximal, 0, on a ball; linear outside (toy experiments).

    Args:
        x: points, (n, d).
        centre: the rewarded point mu*, d numbers.
        gamma: slope, per unit of length, >= 0.
        r_min: radius of the flat top, >= 0.

    Returns:
        (n,), in (-inf, 0].
    """
    _require_gamma(gamma)
    require(math.isfinite(r_min) and r_min >= 0, "r_min", r_min, "finite and >= 0")
    require(len(centre) == x.shape[-1], "centre", centre, f"{x.shape[-1]} numbers")
    gap = torch.linalg.vector_norm(x - torch.as_tensor(centre, dtype=x.dtype, device=x.device), dim=-1) - r_min
    return -gamma * gap.clamp_min(0.0)


def class_probability(q: Tensor, class_index: int, gamma: float) -> Tensor:
    """r(x) = gamma * q_c(x): the probability that a classifier gives one class (airplane experiment).

    Args:
        q: class probabilities, (n, classes), rows sum to 1.
        class_index: c, 0 <= c < classes.
        gamma: scale, >= 0.

    Returns:
        (n,), in [0, gamma].
    """
    _require_gamma(gamma)
    require(0 <= class_index < q.shape[1], "class_index", class_index, f"in 0..{q.shape[1] - 1}")
    return gamma * q[:, class_index]


def confidence(q: Tensor, gamma: float) -> Tensor:
    """r(x) = gamma * max_i q_i(x): the classifier's confidence, which names no class.

    Args:
        q: class probabilities, (n, classes), rows sum to 1.
        gamma: scale, >= 0.

    Returns:
        (n,), in [gamma / classes, gamma].
    """
    _require_gamma(gamma)
    return gamma * q.amax(dim=1)


def _require_gamma(gamma: float) -> None:
    require(math.isfinite(gamma) and gamma >= 0, "gamma", gamma, "finite and >= 0")
