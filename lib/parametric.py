"""Theorem 2.2 on one-parameter families, at the level of populations: no samples, quadrature on a line.

The theorem is about the loop without curation (K = 1) and with real data, and builds on Bertrand et al.,
"On the Stability of Iterative Retraining of Generative Models on their own Data" (ICLR 2024):

    theta_{t+1} = argmax_theta E_{p_ref}[log p_theta] + lam E_{p_{theta_t}}[log p_theta],
    theta*      = argmax_theta E_{p_ref}[log p_theta].

It needs alpha (strong concavity of theta -> E_{p_ref}[log p_theta] at theta*), L (Lipschitz constant in x of
x -> d^2/dtheta^2 log p_theta(x)) and eps (Wasserstein-1 distance of p_{theta*} and p_ref). In a location family
p_theta(x) = g(x - theta) all three are one-dimensional integrals or maxima.

Laws are float64 arrays (n,) of probabilities on NODES. Their densities are analytic and decay at least like
e^-|x|, so the trapezoid rule on NODES is exact to rounding; only the |.| inside eps costs O(SPACING^2).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from lib.checks import require

SPACING = 0.01
NODES = np.arange(-6000, 6001) * SPACING  # (n,) = (12001,), covering [-60, 60]
FLOOR = 1e-10  # below this KL, rounding in theta shows in its ratio from round to round


@dataclass(frozen=True)
class Family:
    """A location family p_theta(x) = g(x - theta); functions take z = x - theta of any shape.

    Attributes:
        name: for tables.
        log_density: log g, up to a constant.
        score: d/dtheta log p_theta = -(log g)'(z).
        curvature: d^2/dtheta^2 log p_theta = (log g)''(z), < 0.
        lipschitz: L = max |(log g)'''|.
    """

    name: str
    log_density: Callable[[np.ndarray], np.ndarray]
    score: Callable[[np.ndarray], np.ndarray]
    curvature: Callable[[np.ndarray], np.ndarray]
    lipschitz: float

    def law(self, theta: float) -> np.ndarray:
        """p_theta on NODES, summing to 1."""
        density = np.exp(self.log_density(NODES - theta))
        return density / density.sum()


# (log g)'' = -sech^2(z/2) / 2, so (log g)''' = u (1 - u^2) / 2 with u = tanh(z/2), largest at u = 1 / sqrt(3).
LOGISTIC = Family(
    "logistic",
    lambda z: -np.logaddexp(0, z) - np.logaddexp(0, -z),
    lambda z: np.tanh(z / 2),
    lambda z: -0.5 / np.cosh(z / 2) ** 2,
    1 / (3 * math.sqrt(3)),
)
GAUSSIAN = Family("Gaussian", lambda z: -0.5 * z**2, lambda z: z, lambda z: -np.ones_like(z), 0.0)


@dataclass(frozen=True)
class Constants:
    """What Theorem 2.2 needs to know of a family and a law.

    Attributes:
        theta: theta*.
        alpha: -E_{p_ref}[d^2/dtheta^2 log p_theta] at theta*.
        lipschitz: L.
        eps: Wasserstein-1 distance of p_theta* and p_ref.
        fisher: -E_{p_theta*}[d^2/dtheta^2 log p_theta], the Fisher information; |fisher - alpha| <= L eps.
    """

    theta: float
    alpha: float
    lipschitz: float
    eps: float
    fisher: float

    @property
    def lam_limit(self) -> float:
        """The theorem asks for lam < alpha / (2 L eps)."""
        slack = 2 * self.lipschitz * self.eps
        return self.alpha / slack if slack > 0 else math.inf

    def rate(self, lam: float) -> float:
        """rho = lam (alpha + eps L) / (alpha + lam (alpha - eps L)): KL shrinks at least like rho^{2t}."""
        shift = self.eps * self.lipschitz
        below = self.alpha + lam * (self.alpha - shift)
        return lam * (self.alpha + shift) / below if below > 0 else math.inf

    def local_rate(self, lam: float) -> float:
        """d theta_{t+1} / d theta_t at theta*, from the update's first-order condition; below 1 for every lam."""
        return lam * self.fisher / (self.alpha + lam * self.fisher)


def mixture(centres: tuple[float, ...], weights: tuple[float, ...]) -> np.ndarray:
    """A law to learn: logistics of scale 1 at `centres`, with `weights` that sum to 1."""
    return sum(w * LOGISTIC.law(c) for w, c in zip(weights, centres, strict=True))


def fit(family: Family, prob: np.ndarray) -> float:
    """argmax_theta E_prob[log p_theta]: the only zero of the mean score, which falls in theta."""
    return brentq(lambda theta: float(prob @ family.score(NODES - theta)), NODES[0], NODES[-1], xtol=1e-15)


def constants(family: Family, prob_ref: np.ndarray) -> Constants:
    """theta*, alpha, L and eps of a family facing a law."""
    theta = fit(family, prob_ref)
    law, bend = family.law(theta), -family.curvature(NODES - theta)
    return Constants(
        theta, float(prob_ref @ bend), family.lipschitz, wasserstein(law, prob_ref), float(law @ bend)
    )


def wasserstein(p: np.ndarray, q: np.ndarray) -> float:
    """Wasserstein-1 distance of two laws: the area between their distribution functions."""
    return SPACING * float(np.abs(np.cumsum(p - q)).sum())


def kl(family: Family, theta: float, other: float) -> float:
    """KL(p_theta || p_other): the mean of -d, d the log ratio; near 0 of e^d - 1 - d, where nothing cancels."""
    d, law = family.log_density(NODES - other) - family.log_density(NODES - theta), family.law(theta)
    plain = -float(law @ d)
    return plain if plain > 1 else float(law @ (np.expm1(d) - d))  # far apart, e^d overflows


def loop(family: Family, prob_ref: np.ndarray, lam: float, theta_0: float, rounds: int) -> pd.DataFrame:
    """Retraining without curation, from theta_0.

    Args:
        family: the model class.
        prob_ref: the real data's law on NODES.
        lam: synthetic to real ratio lambda, > 0 and finite.
        theta_0: the first model.
        rounds: T; fewer come back once KL is below FLOOR.

    Returns:
        A row a round: round, theta, kl = KL(p_theta* || p_theta_t), contraction = kl over the last round's
        (nan in round 0).
    """
    require(0 < lam < math.inf, "lam", lam, "> 0 and finite")
    best, theta, rows = fit(family, prob_ref), theta_0, []
    for t in range(rounds + 1):
        rows.append({"round": t, "theta": theta, "kl": kl(family, best, theta)})
        if rows[-1]["kl"] < FLOOR:
            break
        theta = fit(family, (prob_ref + lam * family.law(theta)) / (1 + lam))
    table = pd.DataFrame(rows)
    return table.assign(contraction=table["kl"] / table["kl"].shift())


def theorem_2_2(
    families: tuple[Family, ...], prob_ref: np.ndarray, lams: tuple[float, ...], theta_0: float, rounds: int
) -> pd.DataFrame:
    """`loop` for each family and lambda.

    Returns:
        The rows of `loop` with family, lam, bound = rho^2, local = the square of `Constants.local_rate`, and
        covered = whether the theorem's two conditions hold.
    """
    tables = []
    for family in families:
        known = constants(family, prob_ref)
        for lam in lams:
            table = loop(family, prob_ref, lam, theta_0, rounds)
            covered = known.lipschitz * known.eps < known.alpha and lam < known.lam_limit
            rates = {"bound": known.rate(lam) ** 2, "local": known.local_rate(lam) ** 2}
            tables.append(table.assign(family=family.name, lam=lam, covered=covered, **rates))
    return pd.concat(tables, ignore_index=True)
