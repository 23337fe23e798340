"""The OT-CFM training step: ours beside torchcfm's, and both beside what the machine can multiply."""

from functools import partial

import pandas as pd
import torch

from benchmarks import networks
from benchmarks.timing import alternate
from lib.generators.flow import Flow
from lib.generators.training import resolve_precision

STEPS = {"cpu": 10, "cuda": 30}  # of torchcfm in each timed run
# Of ours. A fit begins and ends with copies of all weights, and on a GPU by recording its step; a loop's are of 50
# steps and more.
FIT = {"cpu": 10, "cuda": 200}
BACKWARD = 3  # a training step costs three forward passes
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def run(device: str) -> pd.DataFrame:
    """Seconds a step, steps and GFLOP a second, and shares of the measured ceilings."""
    tops = ceilings(device)
    images = torch.randint(0, 256, (2048, *networks.SHAPE), dtype=torch.uint8)
    tables = [_one_size(size, images, device, tops) for size in networks.SIZES]
    return pd.concat(tables, ignore_index=True)


def ceilings(device: str) -> dict[str, float]:
    """GFLOP/s of a large matrix product, and of a 3x3 convolution of 128 channels on 16x16, in our precision."""
    dtype = DTYPES[resolve_precision("auto", device)]
    n, batch = (8192, 1024) if device == "cuda" else (2048, 128)
    a, b = torch.randn(2, n, n, device=device, dtype=dtype)
    x = torch.randn(batch, 128, 16, 16, device=device, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    kernel = torch.randn(128, 128, 3, 3, device=device, dtype=dtype)
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    repeat = 20

    def products() -> None:
        for _ in range(repeat):
            a @ b

    def convolutions() -> None:
        for _ in range(repeat):
            torch.nn.functional.conv2d(x, kernel, padding=1)

    least = alternate({"matmul": products, "convolution": convolutions}).set_index("contender")["least"]
    work = {"matmul": 2 * n**3, "convolution": 2 * batch * 16 * 16 * 128 * 128 * 9}
    return {name: work[name] * repeat / least[name] / 1e9 for name in work}


def variants(flow: Flow) -> dict[str, dict]:
    """Further contenders, and how they differ from `flow`: as on a CPU without bf16 units; compiled on a GPU."""
    if flow.device.type == "cuda":
        return {"ours, compiled": {"compiled": True}}
    return {"ours, float32": {"precision": "fp32"}} if flow.precision == "bf16" else {}


def _one_size(size: str, images: torch.Tensor, device: str, tops: dict[str, float]) -> pd.DataFrame:
    batch = 128 if device == "cuda" or size == "cifar" else 32
    shards = 1 if device == "cuda" else max(1, torch.get_num_threads())
    flow, net = networks.ours(size, device), networks.theirs(size, device)
    steps = networks.their_steps(net, images, batch, device)

    def fit(made: Flow) -> None:
        made.fit(images, FIT[device], seed=0, batch=batch, lr=2e-4, ema_decay=0.9999, shards=shards)

    contenders = {"ours": partial(fit, flow), "torchcfm": partial(steps, STEPS[device])}
    cost = {
        "ours": networks.gflop(flow.velocity, device),
        "torchcfm": networks.gflop(lambda x, t: net.eval()(t, x), device),
    }
    for name, options in variants(flow).items():
        other = networks.ours(size, device, **options)
        contenders[name], cost[name] = partial(fit, other), cost["ours"]
    table = alternate(contenders, repeats=3)
    times = ["seconds", "least", "greatest"]
    done = [(STEPS if name == "torchcfm" else FIT)[device] for name in table["contender"]]
    table[times] = table[times].div(done, axis=0)
    table["steps/s"] = 1 / table["seconds"]
    table["GFLOP forward"] = table["contender"].map(cost)
    table["GFLOP/s"] = table["GFLOP forward"] * BACKWARD * batch / table["seconds"]
    for name, top in tops.items():
        table[f"of {flow.precision} {name} ceiling"] = table["GFLOP/s"] / top
    table["times torchcfm"] = table.set_index("contender")["seconds"]["torchcfm"] / table["seconds"]
    return table.assign(size=size, batch=batch, device=device, precision_of_ours=flow.precision)
