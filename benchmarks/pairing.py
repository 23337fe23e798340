"""Minibatch optimal transport of noise and images: ours, POT's, torchcfm's."""

import ot
import pandas as pd
import torch
from torchcfm.optimal_transport import OTPlanSampler

from benchmarks.timing import alternate
from lib.generators.flow import ot_pairing


def run(_device: str) -> pd.DataFrame:
    """Seconds to pair n images with n noises, from the pixels on; on the CPU."""
    tables = []
    for n in (64, 128, 256, 512, 1024):
        x0, x1 = torch.randn(2, n, 3, 32, 32)
        sampler = OTPlanSampler(method="exact")

        def pot(x0=x0, x1=x1, n=n) -> None:
            cost = torch.cdist(x0.flatten(1), x1.flatten(1)).square().numpy()
            ot.emd(ot.unif(n), ot.unif(n), cost)

        contenders = {
            "ours": lambda x0=x0, x1=x1: ot_pairing(x0, x1),
            "POT": pot,
            "torchcfm": lambda x0=x0, x1=x1, sampler=sampler: sampler.sample_plan(x0, x1),
        }
        table = alternate(contenders, repeats=7)
        table["times ours"] = table["seconds"] / table.set_index("contender")["seconds"]["ours"]
        tables.append(table.assign(n=n))
    return pd.concat(tables, ignore_index=True)
