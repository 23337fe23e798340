"""What every generator's training shares: weighted data, learning-rate schedule, EMA, checkpoints."""

import math
import os
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from lib.checks import require
from lib.seeds import derive, torch_rng

DECAYS = ("constant", "cosine", "linear")


class NonFiniteLoss(ArithmeticError):
    """Training produced a loss that is not a finite number; the message names the step."""


class Mixture:
    """A training set whose minibatch rows come from part i with probability weights[i] (Eq. 4).

    Drawn with replacement, so parts of any size mix in any proportion.

    Args:
        parts: tensors of one dtype and row shape, each (n_i, ...), n_i >= 1.
        weights: one number >= 0 a part, at least one of them positive; normalised here.
    """

    def __init__(self, parts: Sequence[Tensor], weights: Sequence[float]):
        require(len(parts) == len(weights) >= 1, "weights", list(weights), f"one for each of {len(parts)} parts")
        require(all(w >= 0 and math.isfinite(w) for w in weights) and sum(weights) > 0,
                "weights", list(weights), "finite, >= 0 and not all 0")
        used = [(p, w) for p, w in zip(parts, weights, strict=True) if w > 0]
        require(all(len(p) for p, _ in used), "parts", [len(p) for p in parts], "at least one row in each used part")
        self.rows = torch.cat([p for p, _ in used])
        sizes = torch.tensor([len(p) for p, _ in used])
        self._sizes, self._starts = sizes, sizes.cumsum(0) - sizes
        self._edges = torch.tensor([w for _, w in used], dtype=torch.float64).cumsum(0) / sum(w for _, w in used)

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """n rows, (n, ...), drawn with `rng` (a CPU generator)."""
        u = torch.rand(n, 2, generator=rng, dtype=torch.float64)
        part = torch.bucketize(u[:, 0].contiguous(), self._edges[:-1], right=True)
        index = self._starts[part] + (u[:, 1] * self._sizes[part]).long()
        return self.rows[index.to(self.rows.device)]


def as_mixture(data: "Mixture | Tensor") -> Mixture:
    """A plain tensor becomes a mixture of one part."""
    return data if isinstance(data, Mixture) else Mixture([data], [1.0])


def learning_rate(step: int, steps: int, *, lr: float, warmup: int = 0, decay: str = "constant") -> float:
    """Linear warm-up over `warmup` steps, then "constant", "cosine" (to 10 % of lr) or "linear"
    (constant to half time, then straight down to 0)."""
    if step < warmup:
        return lr * (step + 1) / warmup
    if decay == "cosine":
        return lr * (0.1 + 0.45 * (1 + math.cos(math.pi * step / steps)))
    if decay == "linear":
        return lr * min(1.0, 2 * (1 - step / steps))
    return lr


class Ema:
    """Exponential moving average of a network's parameters.

    The decay starts small, min(decay, (1 + t) / (10 + t)), so that the average forgets its start.
    """

    def __init__(self, net: nn.Module, decay: float):
        require(0 <= decay < 1, "ema_decay", decay, "in [0, 1)")
        self.decay, self.updates = decay, 0
        self.average = [p.detach().clone() for p in net.parameters()]

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self.average, [p.detach() for p in net.parameters()], 1 - decay)

    @torch.no_grad()
    def copy_to(self, net: nn.Module) -> None:
        for parameter, average in zip(net.parameters(), self.average, strict=True):
            parameter.copy_(average)


def train(
    net: nn.Module,
    loss: Callable[[Tensor, torch.Generator], Tensor],
    data: Mixture | Tensor,
    steps: int,
    *,
    seed: int,
    batch: int,
    lr: float,
    decay: str = "constant",
    warmup: int = 0,
    ema_decay: float = 0.999,
    clip: float = 1.0,
    checkpoint: Path | None = None,
    checkpoint_every: int = 500,
    label: str = "training",
) -> list[float]:
    """Minimise `loss` by Adam and leave the EMA weights in `net`.

    Step s draws its minibatch and noise from (seed, s) alone, so a run resumed from `checkpoint`
    equals an uninterrupted one.

    Args:
        loss: (minibatch, rng) -> scalar.
        steps: optimiser steps, >= 0; 0 leaves `net` as it is.
        clip: largest gradient norm.
        checkpoint: file (.safetensors) that holds weights, EMA, moments and step while training runs.

    Returns:
        The loss of each step run in this call.

    Raises:
        NonFiniteLoss: naming the step; `checkpoint` then still holds the last good state.
    """
    require(isinstance(steps, int) and steps >= 0, "steps", steps, "an integer >= 0")
    require(batch >= 1, "batch", batch, ">= 1")
    require(lr > 0 and math.isfinite(lr), "lr", lr, "a finite number > 0")
    require(decay in DECAYS, "decay", decay, f"one of {', '.join(DECAYS)}")
    if steps == 0:
        return []
    data, device = as_mixture(data), next(net.parameters()).device
    net.train()
    optimiser = torch.optim.Adam(net.parameters(), lr=lr, fused=True)
    ema = Ema(net, ema_decay)
    start = _resume(checkpoint, net, optimiser, ema) if checkpoint else 0
    losses = []
    for step in tqdm(range(start, steps), desc=label, initial=start, total=steps, leave=False, mininterval=1.0):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps, lr=lr, warmup=warmup, decay=decay)
        rng = torch_rng(derive(seed, "step", index=step))
        value = loss(data.draw(batch, rng).to(device), rng)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(net.parameters(), clip)
        losses.append(value.detach())
        if (step + 1) % 100 == 0 or step + 1 == steps:  # reading the loss waits for the device: not each step
            _require_finite(losses, start)
        optimiser.step()
        ema.update(net)
        if checkpoint and (step + 1) % checkpoint_every == 0 and step + 1 < steps:
            _save(checkpoint, net, optimiser, ema, step + 1)
    ema.copy_to(net)
    net.eval()
    return torch.stack(losses).tolist() if losses else []


def _require_finite(losses: list[Tensor], start: int) -> None:
    finite = torch.isfinite(torch.stack(losses[-100:]))
    if not finite.all():
        first = start + len(losses) - len(finite) + int((~finite).nonzero()[0])
        raise NonFiniteLoss(f"loss is not finite at step {first}: lower the learning rate or look at the data")


def _save(path: Path, net: nn.Module, optimiser: torch.optim.Adam, ema: Ema, step: int) -> None:
    tensors = {}
    for i, p in enumerate(net.parameters()):
        state = optimiser.state[p]
        tensors |= {f"weight.{i}": p.detach(), f"ema.{i}": ema.average[i],
                    f"m.{i}": state["exp_avg"], f"v.{i}": state["exp_avg_sq"]}
    partial = path.with_suffix(".partial")
    save_file({k: v.contiguous() for k, v in tensors.items()}, partial, {"step": str(step)})
    os.replace(partial, path)


@torch.no_grad()
def _resume(path: Path, net: nn.Module, optimiser: torch.optim.Adam, ema: Ema) -> int:
    """The step to go on from; 0 where there is no checkpoint."""
    if not path.exists():
        return 0
    with safe_open(path, "pt") as file:
        step = int(file.metadata()["step"])
        for i, p in enumerate(net.parameters()):
            p.copy_(file.get_tensor(f"weight.{i}"))
            ema.average[i].copy_(file.get_tensor(f"ema.{i}"))
            optimiser.state[p] = {
                "step": torch.tensor(float(step), device=p.device),
                "exp_avg": file.get_tensor(f"m.{i}").to(p),
                "exp_avg_sq": file.get_tensor(f"v.{i}").to(p),
            }
    ema.updates = step
    return step


@contextmanager
def threads(n: int):
    """Run the body on n CPU threads: small networks are fastest, and bit-reproducible, on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
