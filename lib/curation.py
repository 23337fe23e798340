"""Curation: from each menu of K samples, one is kept by Luce's choice rule (Algorithm 1, line 4)."""

import itertools

import torch
from torch import Tensor

from lib.checks import require
from lib.seeds import torch_rng

MENUS = ("disjoint", "resample")
BLOCK = 1 << 16  # menus worked on at a time: what they need stays in a core's cache


def k_choice(reward: Tensor, k: int, n_keep: int, *, seed: int, menus: str = "disjoint") -> Tensor:
    """Indices of the samples kept, one from each of n_keep menus of k.

    Within a menu, sample i is kept with probability exp(r_i) / sum_j exp(r_j) (Luce; Bradley-Terry for
    k = 2): the first one at which the running sum of exp(r) reaches u times the whole, u uniform in (0, 1].

    Args:
        reward: r of each sample in the pool, (n,), finite, on any device. The pool is in no order, as a model's
            samples are: shuffle what is sorted.
        k: menu size K, >= 1; 1 keeps a sample whatever its reward.
        n_keep: number of menus, and of samples kept, >= 0.
        seed: makes the choice reproducible (on one kind of device).
        menus: "disjoint" shows no sample twice: menu i holds samples i, i + n_keep, i + 2 n_keep, ... of the
            pool, and n_keep * k <= n; "resample" draws every menu from the pool with replacement.

    Returns:
        int64, (n_keep,), indices into the pool.

    Raises:
        BadInput: for an argument out of range, or more menus than the pool can fill.
    """
    n = reward.numel()
    require(reward.ndim == 1 and n > 0, "reward.shape", tuple(reward.shape), "(n,) with n >= 1")
    require(isinstance(k, int) and k >= 1, "k", k, "an integer >= 1")
    require(isinstance(n_keep, int) and n_keep >= 0, "n_keep", n_keep, "an integer >= 0")
    require(menus in MENUS, "menus", menus, f"one of {', '.join(MENUS)}")
    if menus == "disjoint":
        require(n_keep * k <= n, "n_keep", n_keep, f"at most {n // k}: {n} samples fill {n // k} menus of {k}")
    if not all(torch.isfinite(end) for end in reward.aminmax()):
        bad = int((~torch.isfinite(reward)).sum())
        require(False, "reward", f"{bad} of {n} not finite", "finite")
    rng = torch_rng(seed, reward.device)
    kept = torch.arange(n_keep, device=reward.device)
    for first in range(0, n_keep, BLOCK):
        block = kept[first : first + BLOCK]
        if menus == "disjoint":
            starts = range(first, n_keep * k, n_keep)
            shown = torch.stack([reward[start : start + len(block)] for start in starts])
            for passed in _passed_over(shown, rng):
                block.add_(passed, alpha=n_keep)
        else:
            shown = torch.randint(n, (k, len(block)), generator=rng, device=reward.device)
            seat = _passed_over(reward[shown], rng).sum(dim=0, keepdim=True)
            block.copy_(shown.gather(0, seat)[0])
    return kept


def _passed_over(shown: Tensor, rng: torch.Generator) -> Tensor:
    """For menus in columns, (k, n), whether row j lies before the one chosen: bool, (k - 1, n)."""
    shown = shown.float() if shown.dtype.itemsize < 4 else shown
    odds = (shown - shown.amax(dim=0)).exp_()
    for before, here in itertools.pairwise(odds):
        here += before
    # in (0, 1], so that odds of 0 are never met
    u = 1 - torch.rand(odds.shape[1], generator=rng, dtype=odds.dtype, device=odds.device)
    return odds[:-1] < u * odds[-1]
