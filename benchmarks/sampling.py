"""Sampling: images a second beside torchcfm's network, and the error of fixed steps against dopri5."""

import pandas as pd
import torch

from benchmarks import networks
from benchmarks.timing import alternate
from benchmarks.training import variants
from lib import paths
from lib.generators.flow import EVALUATIONS, Flow, integrate
from lib.parallel import parallel_map
from lib.seeds import torch_rng

NFE = 16  # network evaluations in the comparison of speeds


def run(device: str) -> pd.DataFrame:
    """Images a second at one NFE and size of network."""
    rows = []
    for size in networks.SIZES:
        n = 2048 if device == "cuda" else {"published": 32, "cifar": 128}[size]
        flow, net = networks.ours(size, device, ode_steps=NFE - 1), networks.theirs(size, device).eval()
        noise = torch.randn(n, *networks.SHAPE, device=device)

        @torch.no_grad()
        def plain(net=net, noise=noise) -> None:
            integrate(lambda x, t: net(t, x), noise, method="midpoint", steps=NFE // 2)

        others = {
            name: networks.ours(size, device, ode_steps=NFE - 1, **options)
            for name, options in variants(flow).items()
        }
        contenders = {
            name: lambda one=one, n=n: one.sample(n, seed=0, batch=min(128, n // 2))
            for name, one in {"ours": flow, **others}.items()
        }
        contenders["torchcfm"] = plain
        table = alternate(contenders, repeats=3)
        table["images/s"] = n / table["seconds"]
        cost = networks.gflop(lambda x, t, net=net: net(t, x), device), networks.gflop(flow.velocity, device)
        table["GFLOP forward"] = [cost[name != "torchcfm"] for name in table["contender"]]
        table["times torchcfm"] = table.set_index("contender")["seconds"]["torchcfm"] / table["seconds"]
        rows.append(table.assign(size=size, images=n, NFE=NFE, device=device, precision_of_ours=flow.precision))
    return pd.concat(rows, ignore_index=True)


def errors(device: str) -> pd.DataFrame:
    """Fixed steps against dopri5 at 1e-5 on the same noise, of the stored p_0 of CIFAR-10 and of the digits.

    `rmse` is the root mean square error a pixel (in [-1, 1]); `spread` the ratio of the pixels' standard
    deviations: what a solver takes from the contrast in one round of a loop, it takes again in the next.
    """
    tables = [_errors(name, device).assign(model=name) for name in ("cifar_p0", "digits_p0")]
    return pd.concat(tables, ignore_index=True)


def _errors(name: str, device: str) -> pd.DataFrame:
    flow = Flow.load(paths.CHECKPOINTS / f"{name}.safetensors", device=device)
    noise = torch.randn(32, *flow.shape, generator=torch_rng(0)).to(device)
    exact = _solve(flow, noise, "dopri5", 0, "fp32")
    rows = []
    for method, (each, once) in EVALUATIONS.items():
        for nfe in (4, 8, 10, 16, 32):
            for precision in dict.fromkeys(("fp32", flow.precision)):
                found = _solve(flow, noise, method, (nfe - once) // each, precision)
                rows.append(
                    {
                        "method": method,
                        "NFE": nfe,
                        "precision": precision,
                        "rmse": float((found - exact).square().mean().sqrt()),
                        "spread": float(found.std() / exact.std()),
                    }
                )
    return pd.DataFrame(rows)


@torch.no_grad()
def _solve(flow: Flow, noise: torch.Tensor, method: str, steps: int, precision: str) -> torch.Tensor:
    def one(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return integrate(lambda x, t: flow.velocity(x, t, precision), x, method=method, steps=max(1, steps))

    return torch.cat(list(parallel_map(one, noise.chunk(2), flow.device)))
