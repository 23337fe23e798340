"""What every generator's training shares: weighted data, learning-rate schedule, EMA, checkpoints."""

import copy
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from lib import distributed, sealed
from lib.checks import NotFinite, require
from lib.muon import Muon, inner_kernels
from lib.parallel import one_thread_each
from lib.seeds import derive, torch_rng

DECAYS = ("constant", "cosine", "linear")
PRECISIONS = ("auto", "fp32", "bf16")
MOMENTS = ("exp_avg", "exp_avg_sq")  # of Adam, by its own names
ALIGN = 16  # float32 numbers of a cache line
LONG = 1000  # steps from which a fit has a progress bar of its own


class NonFiniteLoss(NotFinite):
    """Training produced a loss or gradient that is not a finite number; the message names the step."""


def progress(items: Iterable, *, desc: str, hide: bool = False, **options) -> tqdm:
    """A progress bar that vanishes when done; none where `hide` or $TQDM_DISABLE says so."""
    hide = hide or bool(os.environ.get("TQDM_DISABLE"))  # tqdm's own reading of it misses notebook widgets
    return tqdm(items, desc=desc, disable=hide, leave=False, mininterval=1.0, **options)


class Mixture:
    """A training set whose minibatch rows come from part i with probability weights[i] (Eq. 4).

    Drawn with replacement, so parts of any size mix in any proportion.

    Args:
        parts: tensors of one dtype and row shape, each (n_i, ...), n_i >= 1.
        weights: one number >= 0 a part, at least one of them positive; normalised here.
    """

    def __init__(self, parts: Sequence[Tensor], weights: Sequence[float]):
        require(len(parts) == len(weights) >= 1, "weights", list(weights), f"one for each of {len(parts)} parts")
        require(
            all(w >= 0 and math.isfinite(w) for w in weights) and sum(weights) > 0,
            "weights",
            list(weights),
            "finite, >= 0 and not all 0",
        )
        used = [(p, w) for p, w in zip(parts, weights, strict=True) if w > 0]
        require(
            all(len(p) for p, _ in used),
            "parts",
            [len(p) for p in parts],
            "at least one row in each used part",
        )
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

    def digest(self) -> str:
        """SHA-256 of the rows, the parts' sizes and their weights: of all that decides what is drawn."""
        held = {"rows": self.rows.cpu().contiguous(), "sizes": self._sizes, "edges": self._edges}
        return sealed.content_digest(held, "")


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


def _in_order(net: nn.Module, last: Sequence[nn.Parameter]) -> list[nn.Parameter]:
    behind = {id(p) for p in last}
    return [p for p in net.parameters() if id(p) not in behind] + list(last)


def _aligned(p: Tensor) -> int:
    return math.ceil(p.numel() / ALIGN) * ALIGN


@contextmanager
def flattened(net: nn.Module, last: Sequence[nn.Parameter] = ()) -> Iterator[nn.Parameter]:
    """All parameters of a network as one vector (n,) for the length of the body; its `.grad` holds the gradients.

    Clipping, Adam and the running average are then a few operations whatever the number of layers: in a small
    network those of each layer by itself take longer than its arithmetic. Each parameter keeps its shape and
    memory layout, and starts at a multiple of `ALIGN` numbers; what lies between stays 0, so n is a little more
    than the number of parameters. Those in `last` come last.
    """
    parameters = _in_order(net, last)
    sizes = [_aligned(p) for p in parameters]
    vector = nn.Parameter(parameters[0].new_zeros(sum(sizes)))
    vector.grad = torch.zeros_like(vector)
    parts, gradients = vector.detach().split(sizes), vector.grad.split(sizes)
    for p, part, gradient in zip(parameters, parts, gradients, strict=True):
        p.data = part.as_strided(p.shape, p.stride()).copy_(p.detach())
        p.grad = gradient.as_strided(p.shape, p.stride())
    try:
        yield vector
    finally:
        for p in parameters:
            p.data, p.grad = p.detach().clone(), None


class _Updates:
    """Adam on a flattened network; with `kernels`, the last in it, Muon on those and Adam on the rest."""

    def __init__(self, vector: nn.Parameter, kernels: list[nn.Parameter], lr: float, muon_lr: float):
        front = len(vector) - sum(map(_aligned, kernels))
        self.rest = nn.Parameter(vector.detach()[:front])
        self.rest.grad = vector.grad[:front]
        self.adam = torch.optim.Adam([self.rest], lr=lr, fused=True)
        self.muon = Muon(kernels, muon_lr, 0.95, steps=5, fixed_norm=False) if kernels else None

    def step(self, rate: float, muon_rate: float) -> None:
        self.adam.param_groups[0]["lr"] = rate
        self.adam.step()
        if self.muon:
            self.muon.param_groups[0]["lr"] = muon_rate
            self.muon.step()

    def state(self) -> dict[str, Tensor]:
        moments = self.adam.state[self.rest]
        state = {key: moments[key] for key in MOMENTS}
        for i, kernel in enumerate(self.kernels):
            state[f"momentum_{i}"] = self.muon.state[kernel]["momentum_buffer"]
        return state

    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        moments = {key: torch.empty_like(self.rest.detach()).copy_(tensors[key]) for key in MOMENTS}
        self.adam.state[self.rest] = moments | {"step": torch.tensor(float(step), device=self.rest.device)}
        for i, kernel in enumerate(self.kernels):
            self.muon.state[kernel]["momentum_buffer"] = torch.empty_like(kernel).copy_(tensors[f"momentum_{i}"])

    @property
    def kernels(self) -> list[nn.Parameter]:
        return self.muon.param_groups[0]["params"] if self.muon else []


class Ema:
    """Exponential moving average of a tensor.

    The decay of update t is min(decay, (1 + t) / (10 + t)), small at first, so that the average forgets its start.
    `decay` itself acts only after about 9 / (1 - decay) updates (8,990 at 0.999); until then the average reaches
    back over about a tenth of the updates so far.
    """

    def __init__(self, values: Tensor, decay: float):
        require(0 <= decay < 1, "ema_decay", decay, "in [0, 1)")
        self.decay, self.updates = decay, 0
        self.average = values.detach().clone()

    def update(self, values: Tensor) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.average.lerp_(values.detach(), 1 - decay)


def train(
    net: nn.Module,
    loss: Callable[..., Tensor],
    data: Mixture | Tensor,
    steps: int,
    *,
    seed: int,
    batch: int,
    lr: float,
    muon_lr: float = 0.0,
    decay: str = "constant",
    warmup: int = 0,
    ema_decay: float = 0.999,
    clip: float = 1.0,
    checkpoint: Path | None = None,
    checkpoint_every: int = 500,
    prepare: Callable[[Tensor, torch.Generator], tuple[Tensor, ...]] | None = None,
    shards: int = 1,
    label: str = "training",
    identity: Mapping[str, object] | None = None,
) -> list[float]:
    """Minimise `loss` by Adam, or Muon and Adam, and leave the EMA weights in `net`.

    Step s draws its minibatch and noise from (seed, s) alone, so a run resumed from `checkpoint`
    equals an uninterrupted one.

    Args:
        net: the network; its device is where it trains.
        loss: (minibatch, rng) -> scalar; with `prepare`, (*what it returns) -> scalar.
        data: the training set; minibatches are drawn with replacement.
        steps: optimiser steps, >= 0; 0 leaves `net` as it is.
        seed: of minibatches and noise.
        batch: rows a step, >= 1.
        lr: peak learning rate of Adam, > 0.
        muon_lr: that of Muon on all convolution kernels but the first and the last; 0: Adam trains them, too.
        decay: one of DECAYS, see `learning_rate`.
        warmup: steps of linear warm-up, an integer >= 0.
        ema_decay: of the running average of the weights, in [0, 1). A limit: in trainings of fewer than about
            9 / (1 - ema_decay) steps the average is shorter, and the same whatever the limit; see `Ema`.
        clip: largest gradient norm, > 0 and finite.
        checkpoint: file (.safetensors) that holds weights, EMA, moments and step while training runs.
        checkpoint_every: steps between two writes of it, an integer >= 1.
        prepare: (minibatch, rng) -> tensors of as many rows, on the CPU, and in them all that is random about a
            step; run in a worker thread one step ahead, so that it costs no time beside a step that is longer.
            One process on a GPU then records the step of a whole minibatch, and replays it (`Recorded`).
        shards: parts of each minibatch that are computed side by side, each in a thread of its own. On a
            CPU as many shards as cores beats as many threads an operation: nothing waits at barriers, so a
            busy neighbour costs its share and no more, and the result does not depend on thread counts.
            Several processes (`lib.distributed`) share them out; none may be without one. With `prepare` their
            number changes results by rounding only.
        label: of the progress bar.
        identity: what else tells this training from others, JSON-able: a checkpoint with another is refused.

    Returns:
        The loss of each step run in this call.

    Raises:
        BadInput: also where `checkpoint` is of another training, or of one on other data.
        NonFiniteLoss: naming the step; `checkpoint` then still holds the last good state.
    """
    require(isinstance(steps, int) and steps >= 0, "steps", steps, "an integer >= 0")
    require(batch >= 1, "batch", batch, ">= 1")
    require(1 <= shards <= batch, "shards", shards, f"in 1..{batch}, the batch size")
    parts, processes = math.ceil(batch / math.ceil(batch / shards)), distributed.processes()
    enough = f"larger, or the batch: it gives {parts} parts for {processes} processes"
    require(parts >= processes, "shards", shards, enough)
    require(lr > 0 and math.isfinite(lr), "lr", lr, "a finite number > 0")
    require(muon_lr >= 0 and math.isfinite(muon_lr), "muon_lr", muon_lr, "a finite number >= 0")
    require(decay in DECAYS, "decay", decay, f"one of {', '.join(DECAYS)}")
    require(isinstance(warmup, int) and warmup >= 0, "warmup", warmup, "an integer >= 0")
    require(clip > 0 and math.isfinite(clip), "clip", clip, "a finite number > 0")
    whole = isinstance(checkpoint_every, int) and checkpoint_every >= 1
    require(whole, "checkpoint_every", checkpoint_every, "an integer >= 1")
    kernels = inner_kernels(net, skip_last=True) if muon_lr else []
    require(bool(kernels) == bool(muon_lr), "muon_lr", muon_lr, "0 for a network of fewer than 3 convolutions")
    if steps == 0:
        return []
    data, device = as_mixture(data), next(net.parameters()).device
    net.train()
    about = {
        "seed": seed, "steps": steps, "batch": batch, "lr": lr, "muon_lr": muon_lr, "decay": decay,
        "warmup": warmup, "ema_decay": ema_decay, "clip": clip, "shards": shards,
    }  # fmt: skip
    with flattened(net, kernels) as vector:
        updates, ema = _Updates(vector, kernels, lr, muon_lr), Ema(vector, ema_decay)
        about["network"] = [[list(p.shape), list(p.stride())] for p in _in_order(net, kernels)]
        if checkpoint:
            about |= {"data": data.digest()} | dict(identity or {})
        start = _resume(checkpoint, about, vector, updates, ema) if checkpoint else 0
        losses, pool, parameters = [], one_thread_each(shards), list(net.parameters())
        whole = partial(_backward, parameters, loss)
        if device.type == "cuda" and prepare and processes == 1:
            whole, shards = Recorded(whole, device), 1
        batches = _batches(data, range(start, steps), seed, batch, shards, prepare, pinned=device.type == "cuda")
        bar = progress(batches, desc=label, initial=start, total=steps, hide=steps < LONG)
        for step, minibatch in bar:
            if shards == 1:
                value = whole(*_to(device, minibatch[0]))
            else:
                mine = [_to(device, part) for part in distributed.own(minibatch)]
                value = sharded_backward(parameters, [partial(_share, loss, batch, *part) for part in mine], pool)
                distributed.add_up([value, vector.grad])
            norm = nn.utils.clip_grad_norm_([vector], clip)
            losses.append(value)
            saves = checkpoint and (step + 1) % checkpoint_every == 0 and step + 1 < steps
            if saves or (step + 1) % 100 == 0 or step + 1 == steps:  # reading waits for the device: not each step
                _require_finite(losses, norm, start)
                bar.set_postfix(loss=f"{float(torch.stack(losses[-100:]).mean()):.4f}")
            updates.step(*(learning_rate(step, steps, lr=r, warmup=warmup, decay=decay) for r in (lr, muon_lr)))
            ema.update(vector)
            if saves and distributed.is_first():
                state = {"weights": vector, "ema": ema.average} | updates.state()
                sealed.write(checkpoint, state, about | {"step": step + 1})
        vector.data.copy_(ema.average)
        distributed.take_from_first([vector])
    net.eval()
    return torch.stack(losses).tolist() if losses else []


def _to(device: torch.device, part: tuple) -> tuple:
    return tuple(each.to(device, non_blocking=True) if isinstance(each, Tensor) else each for each in part)


def _share(loss: Callable, batch: int, *part: Tensor | torch.Generator) -> Tensor:
    return loss(*part) * (len(part[0]) / batch)


def _backward(parameters: Sequence[nn.Parameter], loss: Callable, *part: Tensor | torch.Generator) -> Tensor:
    value = loss(*part)
    gradients = torch.autograd.grad(value, parameters, materialize_grads=True)
    torch._foreach_copy_([p.grad for p in parameters], gradients)
    return value.detach()


class Recorded:
    """A function of tensors on a GPU, recorded at the first call as a CUDA graph, which later calls replay.

    A training step is some two thousand kernels: Python asks for them more slowly than the GPU runs them.

    Args:
        function: tensors -> tensor, and whatever it writes to tensors that are there before and after; it must
            neither wait for the GPU nor draw random numbers, and gets the same shapes at each call.
        device: the GPU.
    """

    WARM = 3  # calls first: compilation and the search for the fastest convolutions cannot be recorded

    def __init__(self, function: Callable[..., Tensor], device: torch.device):
        self.function, self.device, self.graph = function, device, None

    def __call__(self, *arguments: Tensor) -> Tensor:
        if self.graph is None:
            self._record(arguments)
        torch._foreach_copy_(self.arguments, arguments)
        self.graph.replay()
        return self.value.clone()

    def _record(self, arguments: Sequence[Tensor]) -> None:
        self.arguments = [each.clone() for each in arguments]
        with torch.cuda.device(self.device):
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(self.WARM):
                    self.function(*self.arguments)
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            # "thread_local": the thread that prepares minibatches goes on asking for pinned memory
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.value = self.function(*self.arguments)
        self.graph = graph


def sharded_backward(
    parameters: Sequence[nn.Parameter], losses: Sequence[Callable[[], Tensor]], pool: ThreadPoolExecutor
) -> Tensor:
    """Gradients of the sum of `losses` into `.grad`; returns the sum.

    Each loss is computed in a thread of `pool`; gradients add up in a fixed order, so the outcome is
    deterministic.
    """

    def one(loss: Callable[[], Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
        value = loss()
        return value.detach(), torch.autograd.grad(value, parameters)

    values, gradients = zip(*pool.map(one, losses), strict=True)
    total = list(gradients[0])
    for gradient in gradients[1:]:
        torch._foreach_add_(total, gradient)
    for parameter, gradient in zip(parameters, total, strict=True):
        if parameter.grad is None:
            parameter.grad = gradient
        else:  # it may be part of a larger tensor
            parameter.grad.copy_(gradient)
    return torch.stack(values).sum()


def _batches(
    data: Mixture, steps: range, seed: int, batch: int, shards: int, prepare: Callable | None, *, pinned: bool
) -> Iterator[tuple[int, list[tuple]]]:
    """(step, what `loss` gets of each shard) for each step, made one step ahead if there is work in it.

    In `pinned` memory the way to a GPU needs no waiting for what the GPU does.
    """

    def make(step: int) -> tuple[int, list[tuple]]:
        rng = torch_rng(derive(seed, "step", index=step))
        rows = data.draw(batch, rng)
        if prepare:
            tensors = [each.pin_memory() if pinned else each for each in prepare(rows, rng)]
            return step, list(zip(*(each.chunk(shards) for each in tensors), strict=True))
        rngs = [rng, *(torch_rng(derive(seed, "shard", round=i, index=step)) for i in range(1, shards))]
        return step, list(zip(rows.chunk(shards), rngs, strict=False))

    if prepare is None:
        yield from map(make, steps)
        return
    with ThreadPoolExecutor(1) as worker:
        ahead = worker.submit(make, steps[0]) if steps else None
        for step in steps:
            ready = ahead.result()
            ahead = worker.submit(make, step + 1) if step + 1 < steps.stop else None
            yield ready


def _require_finite(losses: list[Tensor], norm: Tensor, start: int) -> None:
    """The last 100 losses, and the gradient's `norm` of the last step: an earlier one shows in the next loss."""
    finite = torch.isfinite(torch.stack(losses[-100:]))
    finite[-1] &= torch.isfinite(norm)
    if not finite.all():
        first = start + len(losses) - len(finite) + int((~finite).nonzero()[0])
        raise NonFiniteLoss(
            f"loss or gradient is not finite at step {first}: lower the learning rate or look at the data"
        )


def _resume(path: Path, about: dict, vector: nn.Parameter, updates: _Updates, ema: Ema) -> int:
    """The step to go on from; 0 where there is no checkpoint, or none that can be trusted."""
    found = distributed.on_first(lambda: sealed.read(path))
    if found is None:
        return 0
    tensors, info = found
    require_same(path, info, about)
    vector.data.copy_(tensors["weights"])
    ema.average.copy_(tensors["ema"])
    ema.updates = info["step"]
    updates.restore(tensors, info["step"])
    return info["step"]


def require_same(checkpoint: Path, info: dict, about: dict) -> None:
    """Raise `BadInput` unless a checkpoint's `info` holds what a training is `about`, its network among it."""
    others = [key for key, value in about.items() if info.get(key) != value]
    same = "of this network" if "network" in others else f"of this training; it differs in {', '.join(others)}"
    require(not others, "checkpoint", str(checkpoint), f"{same}: delete it to start anew")


@contextmanager
def within_memory(lower: str) -> Iterator[None]:
    """Where the body runs out of the device's memory, the error says which number to lower."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise torch.OutOfMemoryError(f"lower {lower}: {str(error).splitlines()[0]}") from error


def resolve_precision(precision: str, device: str | torch.device) -> str:
    """What `precision`, one of PRECISIONS, means on `device`: "fp32" or "bf16".

    "auto" is "bf16" where the hardware multiplies bfloat16 matrices (AMX, AVX-512 BF16, CUDA from Ampere
    on). Record the answer with the result.
    """
    require(precision in PRECISIONS, "precision", precision, f"one of {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    if torch.device(device).type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    able = torch.cpu.get_capabilities()
    return "bf16" if able.get("amx_bf16") or able.get("avx512_bf16") else "fp32"


def autocast(precision: str, device: str | torch.device) -> torch.autocast:
    """A context in which convolutions and matrix products run in `precision` ("fp32" or "bf16")."""
    # no cache: its entries belong to one graph, and shards build several at once
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False)


def rounded(net: nn.Module) -> nn.Module:
    """A copy whose convolutions and linear layers hold bfloat16 weights: what `autocast` makes of them each time.

    For many evaluations with the same weights, which it leaves bit for bit as they were.
    """
    net = copy.deepcopy(net)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.to(torch.bfloat16)
    return net
