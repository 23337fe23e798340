"""Curation: from each menu of K samples, one is kept by Luce's choice rule (Algorithm 1, line 4)."""

import torch
from torch import Tensor

from lib.checks import require
from lib.seeds import torch_rng

MENUS = ("disjoint", "resample")


def k_choice(reward: Tensor, k: int, n_keep: int, *, seed: int, menus: str = "disjoint") -> Tensor:
    """Indices of the samples kept, one from each of n_keep menus of k.

    Within a menu, sample i is kept with probability exp(r_i) / sum_j exp(r_j) (Luce; Bradley-Terry for
    k = 2), drawn as the argmax of r_i + Gumbel noise, which has exactly that law (Gumbel-max trick).

    Args:
        reward: r of each sample in the pool, (n,), finite, on any device.
        k: menu size K, >= 1; 1 keeps a sample whatever its reward.
        n_keep: number of menus, and of samples kept, >= 0.
        seed: makes the choice reproducible (on one kind of device).
        menus: "disjoint" cuts a random permutation of the pool into menus, so no sample is shown twice
            and n_keep * k <= n; "resample" draws every menu from the pool with replacement.

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
    finite = torch.isfinite(reward)
    require(bool(finite.all()), "reward", f"{int((~finite).sum())} of {n} not finite", "finite")
    rng = torch_rng(seed, reward.device)
    if menus == "disjoint":
        shown = torch.randperm(n, generator=rng, device=reward.device)[: n_keep * k].view(n_keep, k)
    else:
        shown = torch.randint(n, (n_keep, k), generator=rng, device=reward.device)
    # float64: with rewards in the hundreds, float32 would round the noise that makes the choice.
    exponential = torch.empty(n_keep, k, dtype=torch.float64, device=reward.device).exponential_(generator=rng)
    winner = (reward[shown].double() - exponential.log()).argmax(dim=1, keepdim=True)
    return shown.gather(1, winner).squeeze(1)
