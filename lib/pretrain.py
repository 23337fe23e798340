"""Train the CIFAR-10 weights in `checkpoints/`: `python -m lib.pretrain {p0}`; the same command resumes."""

import argparse
import subprocess
import time
from pathlib import Path

import torch

from lib.datasets import cifar10
from lib.generators.flow import Flow
from lib.generators.networks import ConvSettings

PROJECT = Path(__file__).resolve().parent.parent


def provenance(device: torch.device) -> dict:
    """The commit (marked if files differ from it), PyTorch and the device that a card names."""
    git = ["git", "-C", str(PROJECT)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True).stdout
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else torch.cpu.get_capabilities()["cpu_name"]
    )
    return {
        "commit": commit + ("+changes" if changed else "") or "unknown",
        "torch": torch.__version__,
        "device": name,
        "threads": torch.get_num_threads(),
    }


def p0(folder: Path, work: Path, *, seed: int = 0, steps: int = 4400, device: str = "cpu") -> None:
    """OT-CFM on the 50,000 training images, weights to `folder`/cifar_p0.safetensors.

    Args:
        folder: where the weights and their card go.
        work: where the checkpoint of an unfinished training lies.
        seed: of weights, minibatches and noise.
        steps: optimiser steps.
        device: where to train.
    """
    flow = Flow(ConvSettings(), seed=seed, device=device, flip=True)
    options = {"batch": 128, "lr": 1e-3, "warmup": 200, "decay": "linear", "ema_decay": 0.999, "shards": 2}
    images, _ = cifar10(train=True)
    started = time.perf_counter()
    losses = flow.fit(
        images, steps, seed=seed, checkpoint=work / "p0.safetensors", checkpoint_every=100, **options
    )
    a_step = (time.perf_counter() - started) / len(losses)
    flow.save(
        folder / "cifar_p0.safetensors",
        {
            "data": "CIFAR-10, 50000 training images",
            "training": {"steps": steps, "seed": seed, **options},
            "loss": sum(losses[-500:]) / len(losses[-500:]),
            "seconds": round(a_step * steps),
            "precision": flow.precision,
            **provenance(flow.device),
        },
        half=True,
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["p0"])
    parser.add_argument("--folder", type=Path, default=PROJECT / "checkpoints", help="where the weights go")
    parser.add_argument("--work", type=Path, default=PROJECT / "runs", help="where unfinished training lies")
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    p0(asked.folder, asked.work, device=asked.device)


if __name__ == "__main__":
    main()
