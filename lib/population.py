"""The loop without a network: its exact, infinite-sample dynamics on a finite set of atoms.

With an unrestricted model, retraining on curated samples multiplies the density by a weight H that depends on
x only through its reward (arXiv:2407.09499, Section 2):

    p_{t+1} = p_ref / (1 + lam) + lam / (1 + lam) * p_t * H^K_{p_t}
    H^K_p(x) = E[K a / (a + S)],   a = e^{r(x)},   S = sum of K - 1 i.i.d. e^{r(x_i)}, x_i ~ p.

H needs no Monte Carlo. 1 / (a + S) is the integral over s > 0 of e^{-s a} e^{-s S}, and the e^{r(x_i)} are
independent, so H = K a * integral of e^{-s a} phi(s)^(K-1) ds with phi(s) = E_p[exp(-s e^r)]: one integral
over the law of r. In u = log s it is smooth and decays at both ends: there the trapezoid rule converges faster
than any power of its step.

`prob` and `reward` are float64 arrays of one shape: a grid, or a weighted pool of samples.
"""

import math
from collections.abc import Iterator

import numpy as np
from scipy import sparse

from lib.checks import require

STEP = 0.25  # of the trapezoid rule in u = log s; its error falls like exp(-pi^2 / STEP)
SPACING = 1 / 24  # between the reward levels that stand in for many distinct rewards
POINTS = 8  # of the Lagrange interpolation between levels
BLOCK = 4_000_000  # entries of the quadrature kernel held at a time
ROWS = 240  # levels in a block of a larger kernel: near enough to one another to need about the same nodes
WIDEST = 10_000_000  # span of a reward; the nodes of a wider one would take more than 2 GB


class Rewards:
    """A reward array prepared for many steps: `step` and `choice_weight` take it in place of the array.

    Few distinct rewards are used as they are. More are pooled on equally spaced levels by Lagrange
    interpolation, and H is interpolated back with the same weights, so sum p H = 1 stays exact.

    Args:
        reward: r of every atom, any shape, finite, over a span of at most WIDEST.
    """

    def __init__(self, reward: np.ndarray):
        self.array = np.asarray(reward, dtype=np.float64)
        require(self.array.size > 0, "reward.size", self.array.size, ">= 1")
        bad = np.count_nonzero(~np.isfinite(self.array))
        require(bad == 0, "reward", f"{bad} of {self.array.size} not finite", "finite")
        flat = self.array.ravel()
        self.shift = float(flat.max())  # H is unchanged when a constant is added to r
        span = self.shift - float(flat.min())
        require(span <= WIDEST, "span of reward", span, f"at most {WIDEST}")
        count = math.ceil(span / SPACING) + POINTS
        distinct, index = np.unique(flat, return_inverse=True)
        if len(distinct) <= count:
            self.levels = distinct - self.shift
            self.weights = sparse.csr_array((np.ones(flat.size), (np.arange(flat.size), index)))
        else:
            self.levels = (np.arange(count) - (count - 1)) * SPACING
            self.weights = _lagrange(flat - self.shift, self.levels)
        self.pool = self.weights.T.tocsr()  # its rows are summed in order: fast and reproducible
        self._kernel: dict[int, list[tuple]] = {}

    def nodes(self, k: int) -> np.ndarray:
        """u = log s at the quadrature nodes for menus of k."""
        return np.arange(-math.log(k) - 40, 6 - self.levels[0], STEP)

    def kernel(self, k: int) -> Iterator[tuple[slice, slice, np.ndarray, np.ndarray]]:
        """Blocks of levels and of nodes with exp(-s e^r) and s e^r exp(-s e^r) there, for menus of k.

        At all nodes before a block's, exp(-s e^r) is 1 to double precision, and at those behind it is 0.
        """
        if k not in self._kernel:
            u, n = self.nodes(k), len(self.levels)
            rows = n if n * len(u) <= BLOCK else max(1, min(ROWS, BLOCK // len(u)))
            blocks = [_band(self.levels, slice(i, i + rows), u) for i in range(0, n, rows)]
            made = (_kernel_block(self.levels, block, u, nodes) for block, nodes in blocks)
            if sum(rows * (nodes.stop - nodes.start) for _, nodes in blocks) > BLOCK:
                return made
            self._kernel = {k: list(made)}
        return iter(self._kernel[k])


def choice_weight(reward: "np.ndarray | Rewards", prob: np.ndarray, k: float) -> np.ndarray:
    """H^K_p at every atom: by how much curation multiplies its probability.

    Args:
        reward: r of each atom, or `Rewards`.
        prob: p, of the same shape, >= 0, summing to 1.
        k: menu size K, an integer >= 1, or math.inf for the limit e^r / E_p[e^r] (Lemma 2.1).

    Returns:
        float64, of the same shape, in [0, k]. sum(prob * H) = 1.
    """
    rewards, prob = _checked(reward, prob, k)
    return _weight(rewards, prob, k)


def step(
    prob: np.ndarray,
    reward: "np.ndarray | Rewards",
    k: float,
    lam: float = math.inf,
    prob_ref: np.ndarray | None = None,
) -> np.ndarray:
    """p_{t+1} from p_t: one round of curation and retraining with an unrestricted model.

    Args:
        prob: p_t, >= 0, summing to 1.
        reward: r of each atom, or `Rewards` when many steps share it.
        k: menu size K, an integer >= 1, or math.inf.
        lam: synthetic to real ratio lambda, >= 0; math.inf is the pure loop, 0 real data only.
        prob_ref: p_ref, needed unless lam is math.inf.

    Returns:
        float64, of the same shape, summing to 1.
    """
    rewards, prob = _checked(reward, prob, k)
    # With k = inf, H may be inf where p is 0.
    curated = np.multiply(prob, _weight(rewards, prob, k), out=np.zeros_like(prob), where=prob > 0)
    # The map takes a total of 1 + e to 1 + K e: without this line rounding errors grow K-fold a round.
    curated /= curated.sum()
    return mix(curated, lam, prob_ref)


def mix(curated: np.ndarray, lam: float, prob_ref: np.ndarray | None) -> np.ndarray:
    """p_ref / (1 + lam) + lam / (1 + lam) * curated; with lam = math.inf the curated law itself."""
    require(lam >= 0, "lam", lam, ">= 0 (math.inf for curated data only)")
    if math.isinf(lam):
        return curated
    require(prob_ref is not None, "prob_ref", prob_ref, f"given when lam = {lam} mixes in real data")
    prob_ref = _distribution("prob_ref", prob_ref, curated.shape)
    mixed = prob_ref / (1 + lam) + lam / (1 + lam) * curated
    return mixed / mixed.sum()


def trajectory(prob_0, reward, k, rounds: int, lam: float = math.inf, prob_ref=None) -> list[np.ndarray]:
    """[p_0, ..., p_rounds]; arguments as for `step`."""
    require(isinstance(rounds, int) and rounds >= 0, "rounds", rounds, "an integer >= 0")
    rewards = reward if isinstance(reward, Rewards) else Rewards(reward)
    path = [np.asarray(prob_0, dtype=np.float64)]
    for _ in range(rounds):
        path.append(step(path[-1], rewards, k, lam, prob_ref))
    return path


def tilt(prob: np.ndarray, reward: np.ndarray, beta: float = 1.0) -> np.ndarray:
    """p e^{beta r} / E_p[e^{beta r}]: the K = inf step; with beta = t, the law after t of them (Lemma 2.1)."""
    prob, reward = np.asarray(prob, dtype=np.float64), np.asarray(reward, dtype=np.float64)
    tilted = prob * np.exp(beta * (reward - reward[prob > 0].max()).clip(max=0.0))
    return tilted / tilted.sum()


def limit(prob_0: np.ndarray, reward: np.ndarray) -> np.ndarray:
    """p* = p_0 restricted to where r is maximal on its support, renormalised (Theorem 2.1)."""
    prob_0, reward = np.asarray(prob_0, dtype=np.float64), np.asarray(reward, dtype=np.float64)
    prob_0 = _distribution("prob_0", prob_0, reward.shape)
    top = prob_0 * (reward == reward[prob_0 > 0].max())
    return top / top.sum()


def exp_reward_moments(prob: np.ndarray, reward: np.ndarray) -> tuple[float, float]:
    """(E_p[e^r], Var_p[e^r])."""
    value = np.exp(np.asarray(reward, dtype=np.float64))
    mean = float(np.sum(prob * value))
    return mean, float(np.sum(prob * (value - mean) ** 2))


def kl(p: np.ndarray, q: np.ndarray) -> float:
    """KL(p || q) in nats; math.inf where q lacks mass that p has."""
    p, q = np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64)
    on = p > 0
    if np.any(q[on] == 0):
        return math.inf
    return float(np.sum(p[on] * np.log(p[on] / q[on])))


def lemma_2_2_gain(prob: np.ndarray, reward: np.ndarray, k: float) -> float:
    """Lemma 2.2: one pure round raises E[e^r] by at least (K-1)/K * Var_p[e^r] / e^{r*}.

    math.inf where that is larger than any float.
    """
    prob, reward = np.asarray(prob, dtype=np.float64), np.asarray(reward, dtype=np.float64)
    on = prob > 0
    top = float(reward[on].max())
    variance = exp_reward_moments(prob[on], reward[on] - top)[1]  # e^{r*} by itself may be too large
    with np.errstate(divide="ignore", over="ignore"):
        return _share_above_one(k) * float(np.exp(top + np.log(variance)))


def theorem_2_3_gain(prob_ref: np.ndarray, reward: np.ndarray, k: float, lam: float) -> float:
    """Theorem 2.3: E[e^r] of a mixed loop from p_ref exceeds p_ref's by lam/(1+lam)^3 times Lemma 2.2's gain."""
    if math.isinf(lam):
        return 0.0
    return lam * (1 / (1 + lam)) ** 3 * lemma_2_2_gain(prob_ref, reward, k)


def theorem_2_4_bound(k: int, lam: float) -> float:
    """Theorem 2.4: KL(p_t || p_ref) <= -log(1 - lam (K - 1)) at every t; math.inf where lam >= 1 / (K - 1)."""
    return -math.log1p(-lam * (k - 1)) if lam * (k - 1) < 1 else math.inf


def _share_above_one(k: float) -> float:
    return 1.0 if math.isinf(k) else (k - 1) / k


def _checked(reward: "np.ndarray | Rewards", prob: np.ndarray, k: float) -> tuple[Rewards, np.ndarray]:
    whole = isinstance(k, int | np.integer) and not isinstance(k, bool)
    require((whole and k >= 1) or k == math.inf, "k", k, "an integer >= 1, or math.inf")
    rewards = reward if isinstance(reward, Rewards) else Rewards(reward)
    return rewards, _distribution("prob", prob, rewards.array.shape)


def _distribution(name: str, prob: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    prob = np.asarray(prob, dtype=np.float64)
    require(prob.shape == shape, f"{name}.shape", prob.shape, f"{shape}, that of the reward")
    total = float(prob.sum())
    require(abs(total - 1) < 1e-6, f"sum of {name}", total, "1")  # also refuses nan and inf
    require(float(prob.min()) >= 0, f"least {name}", float(prob.min()), ">= 0")
    return prob


def _weight(rewards: Rewards, prob: np.ndarray, k: float) -> np.ndarray:
    if k == 1:
        return np.ones_like(prob)
    if math.isinf(k):
        relative = rewards.array - rewards.array[prob > 0].max()
        value = np.exp(relative.clip(max=700.0))
        with np.errstate(over="ignore"):  # unbounded above the support
            return value / np.sum(prob * value)
    pooled, u = rewards.pool @ prob.ravel(), rewards.nodes(k)
    phi = np.zeros(len(u))
    for block, nodes, laplace, _ in rewards.kernel(k):
        phi[: nodes.start] += pooled[block].sum()
        phi[nodes] += pooled[block] @ laplace
    powered = STEP * k * phi ** (k - 1)
    on_levels = np.concatenate(
        [
            density @ powered[nodes] + _before(rewards.levels[block], u[: nodes.start], powered)
            for block, nodes, _, density in rewards.kernel(k)
        ]
    )
    # Interpolation may leave a rounding error below 0 where H is 0.
    return (rewards.weights @ on_levels).reshape(prob.shape).clip(0.0, k)


def _band(levels: np.ndarray, block: slice, u: np.ndarray) -> tuple[slice, slice]:
    """A block of levels, and the nodes between those where s a < e^-40 for all of it and s a > e^7."""
    low, high = levels[block][[0, -1]]
    return block, slice(*np.searchsorted(u, [u[0] - high, 7 - low]))


def _kernel_block(
    levels: np.ndarray, block: slice, u: np.ndarray, nodes: slice
) -> tuple[slice, slice, np.ndarray, np.ndarray]:
    log_sa = levels[block, None] + u[None, nodes]
    sa = np.exp(log_sa.clip(max=700.0))
    laplace = np.exp(-sa)
    return block, nodes, laplace, np.where(laplace > 0, sa * laplace, 0.0)


def _before(levels: np.ndarray, u: np.ndarray, powered: np.ndarray) -> np.ndarray:
    """What the nodes before a block's give to each of its levels: e^{-s a} is 1, and what is left of it is s a."""
    return np.exp(levels - levels[-1]) * (np.exp(levels[-1] + u) @ powered[: len(u)])


def _lagrange(values: np.ndarray, levels: np.ndarray) -> sparse.csr_array:
    """Lagrange interpolation through the POINTS levels nearest each value: sparse, (values, levels)."""
    position = (values - levels[0]) / SPACING
    first = (np.floor(position).astype(np.int64) - POINTS // 2 + 1).clip(0, len(levels) - POINTS)
    local = position - first
    basis = np.ones((len(values), POINTS))
    for i in range(POINTS):
        for j in range(POINTS):
            if i != j:
                basis[:, i] *= (local - j) / (i - j)
    columns = first[:, None] + np.arange(POINTS)
    indptr = np.arange(0, basis.size + 1, POINTS)
    return sparse.csr_array((basis.ravel(), columns.ravel(), indptr), shape=(len(values), len(levels)))
