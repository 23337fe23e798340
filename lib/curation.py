"""Curation: from each menu of K samples, one is kept by Luce's choice rule (Algorithm 1, line 4)."""

import itertools
import math

import torch
from torch import Tensor

from lib.checks import require
from lib.parallel import parallel_map
from lib.seeds import torch_rng

MENUS = ("disjoint", "resample")
BLOCK = 1 << 18  # menus a thread works on at a time: so many that threads seldom wait for each other
LOG2_E = math.log2(math.e)


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
    device, rng = reward.device, torch_rng(seed, reward.device)
    kept = torch.arange(n_keep, device=device)
    blocks = kept.split(BLOCK)
    if menus == "disjoint":
        shown = reward[: k * n_keep].reshape(k, n_keep).split(BLOCK, dim=1)
    else:
        shown = (torch.randint(n, (k, len(block)), generator=rng, device=device) for block in blocks)
    dtype = torch.promote_types(reward.dtype, torch.float32)
    draws = (torch.rand(len(block), generator=rng, dtype=dtype, device=device) for block in blocks)

    @torch.no_grad()
    def choose(job: tuple[Tensor, Tensor, Tensor]) -> None:
        block, shown, u = job
        if menus == "disjoint":
            block.add_(_seats(shown, u), alpha=n_keep)
        else:
            block.copy_(shown.gather(0, _seats(reward[shown], u).long()[None])[0])

    # this thread draws the numbers, in order, while others choose; for a single block none are started
    jobs = zip(blocks, shown, draws, strict=True)
    for _ in parallel_map(choose, jobs, device) if len(blocks) > 1 else map(choose, jobs):
        pass
    return kept


def _seats(shown: Tensor, u: Tensor) -> Tensor:
    """For menus in columns, (k, n), the row of the one chosen: int32, (n,)."""
    shown = shown.to(u.dtype)
    # exp2: PyTorch's exp is MKL's, which takes more than twice as long on some CPUs
    odds = (shown - shown.amax(dim=0)).mul_(LOG2_E).exp2_()
    for before, here in itertools.pairwise(odds):
        here += before
    u = (1 - u).mul_(odds[-1])  # in (0, 1], so that odds of 0 are never met
    return odds[:-1].lt_(u).sum(dim=0).int()
