"""Randomness as a function of (seed, round, purpose, index).

Every draw in the project takes a seed made here, so no result depends on what was drawn before it:
a resumed run equals an uninterrupted one, and notebook cells may run in any order.
"""

import zlib

import numpy as np
import torch

from lib.checks import require


def derive(seed: int, purpose: str, *, round: int = 0, index: int = 0) -> int:
    """A 63-bit seed for one purpose, independent of the seeds of all other (round, purpose, index).

    Args:
        seed: the run's seed, >= 0.
        purpose: what is drawn, e.g. "curate"; hashed with CRC-32, which is stable across processes.
        round: the retraining round t, >= 0.
        index: distinguishes draws with one purpose in one round (a training step, a batch), >= 0.
    """
    require(isinstance(seed, int | np.integer) and seed >= 0, "seed", seed, "an integer >= 0")
    key = [int(seed), round, zlib.crc32(purpose.encode()), index]
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))


def torch_rng(seed: int, device: str | torch.device = "cpu") -> torch.Generator:
    """A torch generator on `device`, seeded with a value from `derive`."""
    return torch.Generator(device=device).manual_seed(seed)
