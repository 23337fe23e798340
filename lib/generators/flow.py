"""OT-CFM: flow matching along straight paths between optimally paired noise and data.

Tong et al., "Improving and Generalizing Flow-Based Generative Models with Minibatch Optimal Transport",
TMLR 2024, with sigma = 0: x_t = (1 - t) x_0 + t x_1 and the target velocity is x_1 - x_0.
"""

import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchdiffeq import odeint

from lib import distributed
from lib.checks import NotFinite, require
from lib.datasets import to_float, to_uint8
from lib.generators.networks import MlpSettings, NetSettings, build, settings_from_dict, settings_to_dict
from lib.generators.training import (
    Mixture,
    Recorded,
    as_mixture,
    autocast,
    progress,
    resolve_precision,
    rounded,
    train,
    within_memory,
)
from lib.parallel import parallel_map, threads
from lib.seeds import derive, torch_rng
from lib.weights import as_described, load_weights, save_weights

METHODS = ("adams", "midpoint", "heun", "euler", "dopri5")
EVALUATIONS = {  # of the network: in each step, and once more at the start
    "adams": (1, 1), "midpoint": (2, 0), "heun": (2, 0), "euler": (1, 0),
}  # fmt: skip
# Adams-Bashforth: weights of the newest slope, the one before it, ..., by their number
ADAMS_BASHFORTH = {2: (3 / 2, -1 / 2), 3: (23 / 12, -16 / 12, 5 / 12)}
LEAST = MlpSettings((1, 1, 1), width=1, blocks=1)  # to try options on, apart from any card


class Flow:
    """A generator of images, stored as uint8 (n, C, H, W).

    Args:
        settings: the network; its `shape` is the images' (C, H, W).
        seed: of the initial weights.
        device: where it trains and samples.
        precision: "fp32", "bf16" or "auto": bf16 for convolutional networks where the hardware has it
            (an MLP gains nothing). `self.precision` is the outcome; write it down with results.
        compiled: run the network through `torch.compile` (worth its minute of set-up on a GPU).
        method: ODE solver, one of METHODS. "dopri5" is the paper's, adaptive to tolerance 1e-5.
        ode_steps: steps of a fixed-step solver; midpoint and Heun evaluate the network twice a step, Adams
            and Euler once.
        ot: pair noise with data by minibatch optimal transport; False pairs at random.
        flip: mirror each training image left-right with probability 1/2.
    """

    def __init__(
        self,
        settings: NetSettings,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
        precision: str = "auto",
        compiled: bool = False,
        method: str = "adams",
        ode_steps: int = 15,
        ot: bool = True,
        flip: bool = False,
    ):
        require(method in METHODS, "method", method, f"one of {', '.join(METHODS)}")
        require(isinstance(ode_steps, int) and ode_steps >= 1, "ode_steps", ode_steps, "an integer >= 1")
        self.settings, self.device = settings, torch.device(device)
        self.method, self.ode_steps, self.ot, self.flip = method, ode_steps, ot, flip
        small = isinstance(settings, MlpSettings) and precision == "auto"
        self.precision = "fp32" if small else resolve_precision(precision, device)
        with torch.random.fork_rng(devices=[]):  # layers initialise themselves from the global generator
            torch.manual_seed(derive(seed, "weights"))
            net = build(settings)
        layout = torch.preserve_format if isinstance(settings, MlpSettings) else torch.channels_last
        self.net = net.to(self.device, memory_format=layout).eval()
        self._call = torch.compile(self.net) if compiled else self.net
        if self.device.type == "cuda":  # shapes stay the same, so that the search for the fastest kernel pays
            torch.backends.cudnn.benchmark = True

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of an image."""
        return tuple(self.settings.shape)

    @property
    def evaluations(self) -> int | None:
        """Network evaluations a sample (NFE); None where the solver chooses them."""
        if self.method == "dopri5":
            return None
        each, once = EVALUATIONS[self.method]
        return self.ode_steps * each + once

    def velocity(self, x: Tensor, t: Tensor, precision: str | None = None) -> Tensor:
        """v(x, t): x float32 (n, C, H, W), t (n,) or a scalar in [0, 1] -> float32 (n, C, H, W).

        In `precision`, "fp32" or "bf16", or in that of this flow.
        """
        return self._velocity(self._call, precision or self.precision, x, t)

    def _velocity(self, net: Callable, precision: str, x: Tensor, t: Tensor) -> Tensor:
        with autocast(precision, self.device):
            return net(x, t.expand(len(x)).contiguous()).float()  # one layout: it is compiled once

    def fit(self, data: Tensor | Mixture, steps: int, *, seed: int, batch: int = 128, lr: float = 1e-3, **options):
        """Train on from the present weights (a warm start), with a fresh optimiser.

        Args:
            data: uint8 images (n, C, H, W), or a mixture of such sets.
            steps: optimiser steps, >= 0.
            seed: of minibatches, noise, times and flips.
            batch: images a step; also the size of each optimal-transport problem.
            lr: peak learning rate of Adam.
            options: further arguments of `lib.generators.training.train` (decay, warmup, ema_decay, clip,
                checkpoint, ...).

        Returns:
            The loss of each step, mean squared error a pixel.
        """
        data = as_mixture(data)
        require(data.rows.dtype == torch.uint8, "data.dtype", data.rows.dtype, "torch.uint8")
        require(
            tuple(data.rows.shape[1:]) == self.shape,
            "data.shape",
            tuple(data.rows.shape),
            f"(n, {', '.join(map(str, self.shape))})",
        )
        own = {"ot": self.ot, "flip": self.flip, "precision": self.precision}
        options = {"label": "flow", "identity": own, **options}
        few = threads(1) if isinstance(self.settings, MlpSettings) else nullcontext()
        with few, within_memory(f"batch = {batch} (images.batch of a profile)"):
            return train(
                self.net, self._loss, data, steps, seed=seed, batch=batch, lr=lr, prepare=self._pairs, **options
            )

    def _pairs(self, images: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Noise, the images it is paired with, both float32 (n, C, H, W), and times (n,)."""
        x1 = to_float(images)
        if self.flip:
            mirrored = torch.rand(len(x1), generator=rng) < 0.5
            x1 = torch.where(mirrored[:, None, None, None], x1.flip(3), x1)
        x0 = torch.randn(x1.shape, generator=rng)
        return x0, x1[ot_pairing(x0, x1)] if self.ot else x1, torch.rand(len(x1), generator=rng)

    def _loss(self, x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        x, target = straight_path(x0, x1, t)
        return (self.velocity(x, t) - target).square().mean()

    def sample(self, n: int, *, seed: int, batch: int = 128) -> Tensor:
        """n images, uint8 (n, C, H, W), on the CPU.

        The noise of an image depends on (seed, its batch's index) alone, so with one batch size the first
        images of a long request are those of a short one, up to rounding.

        Args:
            n: images, >= 0.
            seed: of the noise.
            batch: images integrated at once; memory grows with it. On a CPU batches run side by side.
        """
        require(isinstance(n, int) and n >= 0, "n", n, "an integer >= 0")
        require(batch >= 1, "batch", batch, ">= 1")
        self.net.eval()
        images = torch.zeros(n, *self.shape, dtype=torch.uint8)
        # an adaptive solver would answer bfloat16's rounding errors with ever smaller steps
        precision = "fp32" if self.method == "dopri5" else self.precision
        eager = precision == "bf16" and self._call is self.net
        velocity = partial(self._velocity, rounded(self.net) if eager else self._call, precision)
        one_shape = self.device.type == "cuda" or self._call is not self.net  # what is recorded or compiled
        if self.device.type == "cuda":
            velocity = Recorded(velocity, self.device)

        @torch.no_grad()
        def fill(i: int) -> None:
            noise = torch.randn(batch, *self.shape, generator=torch_rng(derive(seed, "noise", index=i)))
            if not one_shape:
                noise = noise[: n - i * batch]
            noise = noise.to(self.device, memory_format=torch.channels_last)
            x = integrate(velocity, noise, method=self.method, steps=self.ode_steps)[: n - i * batch]
            if not bool(x.isfinite().all()):
                raise NotFinite(f"batch {i} of the samples is not finite: the model has diverged")
            images[i * batch : (i + 1) * batch] = to_uint8(x).cpu()

        batches = distributed.own(range(math.ceil(n / batch)))
        done = parallel_map(fill, batches, self.device)
        with within_memory(f"batch = {batch} of Flow.sample"):
            for _ in progress(done, desc="sampling", total=len(batches), hide=len(batches) < 100):
                pass
        distributed.add_up([images])  # each batch was left at zero by all processes but one
        return images

    def state_dict(self) -> dict[str, Tensor]:
        """The network's weights."""
        return self.net.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over weights from `state_dict` of a flow with equal settings."""
        self.net.load_state_dict(state)

    def save(self, path: str | Path, card: dict, *, half: bool = False) -> None:
        """Weights to `path` (.safetensors), `card` and the settings to a .json beside it.

        Args:
            path: file to write.
            card: how the weights were made and what they score.
            half: store kernels as float16.
        """
        made = {
            "settings": settings_to_dict(self.settings),
            "method": self.method,
            "ode_steps": self.ode_steps,
        }
        made |= {"ot": self.ot, "flip": self.flip}
        save_weights(path, self.state_dict(), {"flow": made, **card}, half=half)

    @classmethod
    def load(cls, path: str | Path, **options) -> "Flow":
        """A flow from `save`.

        Args:
            path: the .safetensors file.
            options: constructor arguments that replace the saved ones (device, precision, ode_steps, ...).

        Raises:
            BadInput: the file is no flow's, or its card does not describe it; what is wrong with `options` has
                the constructor's own error.
        """
        cls(LEAST, **options)  # the caller's mistakes are none of the card's
        state, card = load_weights(path)
        require("flow" in card, "weights", str(path), "a flow's")
        with as_described(path):
            made = dict(card["flow"])
            flow = cls(settings_from_dict(made.pop("settings")), **(made | options))
            flow.load_state_dict(state)
        return flow


def ot_pairing(x0: Tensor, x1: Tensor) -> Tensor:
    """The permutation p (int64, (n,)) that minimises sum_i |x0[i] - x1[p[i]]|^2, exactly.

    |a - b|^2 = |a|^2 + |b|^2 - 2ab and the squares are the same in every pairing, so ab is all it needs.
    """
    require(len(x0) == len(x1), "len(x1)", len(x1), f"len(x0) = {len(x0)}")
    product = x0.flatten(1) @ x1.flatten(1).T
    _, columns = linear_sum_assignment(product.numpy(), maximize=True)
    return torch.from_numpy(columns)


def straight_path(x0: Tensor, x1: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """(x_t, velocity) of the straight path from x0 at t = 0 to x1 at t = 1; t is (n,)."""
    t = t.reshape(-1, *[1] * (x0.ndim - 1))
    return x0 + t * (x1 - x0), x1 - x0


def integrate(velocity: Callable[[Tensor, Tensor], Tensor], x: Tensor, *, method: str, steps: int) -> Tensor:
    """Solve dx/dt = velocity(x, t) from t = 0 to 1.

    Args:
        velocity: (x, scalar tensor t) -> dx/dt.
        x: the state at t = 0, any shape.
        method: one of METHODS; "adams" is Adams and Bashforth's of third order (Hairer, Norsett and Wanner, 1993,
            III.1), which reuses the slopes of the two steps before; "dopri5" is adaptive (tolerances 1e-5) and
            ignores `steps`.
        steps: equal steps of a fixed-step method.

    Returns:
        The state at t = 1.

    Raises:
        NotFinite: dopri5 found no step small enough. The others return what is then not finite.
    """
    require(method in METHODS, "method", method, f"one of {', '.join(METHODS)}")
    if method == "dopri5":
        ends = torch.tensor([0.0, 1.0], device=x.device)
        try:
            return odeint(lambda t, y: velocity(y, t), x, ends, method="dopri5", rtol=1e-5, atol=1e-5)[1]
        except AssertionError as error:  # torchdiffeq's own
            if "underflow" not in str(error):
                raise
            raise NotFinite("dopri5 finds no step small enough: the model has diverged") from error
    times, recent = torch.linspace(0, 1, steps + 1, device=x.device), []
    for t, h in zip(times[:-1], times.diff(), strict=True):
        slope = velocity(x, t)
        recent = [slope, *recent[:2]]
        if method == "adams" and len(recent) > 1:
            slope = sum(w * s for w, s in zip(ADAMS_BASHFORTH[len(recent)], recent, strict=True))
        elif method in ("midpoint", "adams"):
            slope = velocity(x + h / 2 * slope, t + h / 2)
        elif method == "heun":
            slope = (slope + velocity(x + h * slope, t + h)) / 2
        x = x + h * slope
    return x
