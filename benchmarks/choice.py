"""K-choice: one vectorised pass beside a plain loop over menus."""

import numpy as np
import pandas as pd
import torch

from benchmarks.timing import alternate, once
from lib.curation import k_choice

K = 4
SIZES = (10**4, 10**5, 10**6, 10**7, 10**8)
COPIED = 10**8  # float32 numbers: more than any cache holds
LOOPED = 10**7  # rewards up to which the plain loop is timed, too; above a million only once


def run(device: str) -> pd.DataFrame:
    """Seconds for 10^4 to 10^8 rewards, and bytes that must move over the bandwidth of a copy."""
    source, tables = torch.ones(COPIED, device=device), []
    target = torch.empty_like(source)
    for n in SIZES:
        reward = torch.randn(n, device=device)
        bandwidth = 8 * COPIED / alternate({"copy": lambda: target.copy_(source)})["least"].iloc[0] / 1e9
        table = alternate({"ours": lambda reward=reward, n=n: k_choice(reward, K, n // K, seed=0)}, repeats=21)
        ours = table["seconds"].iloc[0]
        table["GB/s that must move"] = (4 * n + 8 * n // K) / ours / 1e9  # rewards are read, indices written
        table["of copy bandwidth"] = table["GB/s that must move"] / bandwidth
        if n <= LOOPED:
            numbers = reward.double().cpu().numpy()
            seconds = [once(lambda numbers=numbers: plain(numbers)) for _ in range(3 if n <= 10**6 else 1)]
            row = {"contender": "loop over menus", "seconds": float(np.median(seconds)), "least": min(seconds)}
            row |= {
                "greatest": max(seconds),
                "repeats": len(seconds),
                "times ours": float(np.median(seconds)) / ours,
            }
            table = pd.concat([table, pd.DataFrame([row])])
        tables.append(table.assign(n=n, k=K, device=device))
    return pd.concat(tables, ignore_index=True)


def plain(reward: np.ndarray) -> np.ndarray:
    """What one writes first: a loop over menus that are drawn in order, one `choice` in each."""
    rng = np.random.default_rng(0)
    kept = np.empty(len(reward) // K, dtype=np.int64)
    for i in range(len(kept)):
        odds = np.exp(reward[i * K : (i + 1) * K])
        kept[i] = i * K + rng.choice(K, p=odds / odds.sum())
    return kept
