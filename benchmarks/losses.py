"""What the faster ways of training cost in loss and samples: a small U-Net on the 8x8 digits, several seeds."""

import shutil

import pandas as pd

from lib.datasets import digits
from lib.generators.flow import Flow
from lib.generators.networks import ConvSettings
from lib.generators.training import resolve_precision
from lib.quality import frechet_distance

NET = ConvSettings((1, 8, 8), (64, 128))
STEPS, SEEDS, SAMPLES = 400, 3, 1000
WAYS = {  # name -> (options of the flow, of its fit); bfloat16 and compiled where the machine is able to
    "float32": ({"precision": "fp32"}, {}),
    "two shards": ({"precision": "fp32"}, {"shards": 2}),
    "bfloat16": ({"precision": "bf16"}, {}),
    "compiled": ({"precision": "fp32", "compiled": True}, {}),
    "Muon": ({"precision": "fp32"}, {"muon_lr": 2e-3}),
}


def run(device: str) -> pd.DataFrame:
    """Mean training loss of each quarter, and the Fréchet distance of samples' pixels (in 0..1) to the images'.

    A seed decides weights, minibatches and noise in every way alike.
    """
    images, _ = digits()
    pixels, rows = images.flatten(1) / 255, []
    able = resolve_precision("auto", device)
    compiles = device == "cuda" or any(map(shutil.which, ("g++", "clang++")))
    for name, (made, fitted) in WAYS.items():
        if made["precision"] not in ("fp32", able) or (made.get("compiled") and not compiles):
            continue
        for seed in range(SEEDS):
            flow = Flow(NET, seed=seed, device=device, **made)
            losses = flow.fit(images, STEPS, seed=seed, batch=64, decay="linear", ema_decay=0.99, **fitted)
            quarters = pd.Series(losses).groupby([4 * i // STEPS for i in range(STEPS)]).mean()
            row = {"way": name, "seed": seed} | {f"loss, quarter {q + 1}": loss for q, loss in quarters.items()}
            samples = flow.sample(SAMPLES, seed=seed)
            rows.append(row | {"frechet_distance_pixels": frechet_distance(samples.flatten(1) / 255, pixels)})
    return pd.DataFrame(rows)
