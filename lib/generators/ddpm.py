"""A denoising diffusion model (DDPM; Ho et al., 2020) for points in the plane.

x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps for t = 1..T with the cosine schedule (Nichol & Dhariwal, 2021).
The network predicts v = sqrt(abar_t) eps - sqrt(1 - abar_t) x_0 (Salimans & Ho, 2022): predicting eps
mis-weights separate modes at high noise.
"""

import math

import torch
from torch import Tensor, nn

from lib.checks import require
from lib.generators.training import Mixture, train
from lib.parallel import threads
from lib.seeds import derive, torch_rng

STEPS = 100  # T, diffusion steps
VARIANCES = ("beta", "posterior")
SCALE = 2.0  # the network sees SCALE * x: narrow modes then span several of the low-noise steps
CHUNK = 2048  # points denoised together: their activations stay in the processor's cache


class Ddpm:
    """A 2-D DDPM with a small MLP. Runs on one CPU thread: fastest at this size, and reproducible.

    Args:
        seed: of the initial weights.
        width: hidden units of each of the three layers.
        variance: of the reverse step. "beta" adds noise of variance beta_t, plain ancestral sampling;
            "posterior" adds beta_t (1 - abar_{t-1}) / (1 - abar_t), exact only for data at a point: it
            shrinks every mode a little, round after round.
    """

    def __init__(self, *, seed: int, width: int = 64, variance: str = "beta"):
        require(variance in VARIANCES, "variance", variance, f"one of {', '.join(VARIANCES)}")
        require(isinstance(width, int) and width >= 1, "width", width, "an integer >= 1")
        self.variance = variance
        self.signal, self.noise, self.beta = schedule(STEPS)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "weights"))
            self.net = _Mlp(width)

    def fit(
        self, data: Tensor | Mixture, steps: int, *, seed: int, batch: int = 512, lr: float = 2e-3, **options
    ) -> list[float]:
        """Train on points (n, 2) for `steps` optimiser steps from the current weights; see `training.train`."""
        signal, noise = self.signal.float(), self.noise.float()

        def loss(x: Tensor, rng: torch.Generator) -> Tensor:
            x = SCALE * x
            t = torch.randint(1, STEPS + 1, (len(x),), generator=rng)
            eps = torch.randn(x.shape, generator=rng)
            a, s = signal[t, None], noise[t, None]
            return (self.net(a * x + s * eps, t) - (a * eps - s * x)).square().mean()

        options = {"decay": "cosine", "ema_decay": 0.99, "label": "DDPM"} | options
        with threads(1):
            return train(self.net, loss, data, steps, seed=seed, batch=batch, lr=lr, **options)

    @torch.no_grad()
    def sample(self, n: int, *, seed: int) -> Tensor:
        """n points, (n, 2) float32, by ancestral sampling (T network evaluations a point)."""
        require(isinstance(n, int) and n >= 0, "n", n, "an integer >= 0")
        chunks = range(0, n, CHUNK)
        with threads(1):
            parts = [self._denoise(min(CHUNK, n - i), torch_rng(derive(seed, "noise", index=i))) for i in chunks]
        return torch.cat(parts) if parts else torch.empty(0, 2)

    def _denoise(self, n: int, rng: torch.Generator) -> Tensor:
        x = torch.randn(n, 2, generator=rng)
        for t in range(STEPS, 0, -1):
            a, s = float(self.signal[t]), float(self.noise[t])
            v = self.net(x, torch.tensor([t]))
            x0, eps = a * x - s * v, s * x + a * v
            a_next, s_next, beta = float(self.signal[t - 1]), float(self.noise[t - 1]), float(self.beta[t])
            # Mean of q(x_{t-1} | x_t, x_0), written with x_0 and eps so that t = 1 gives x_0 itself.
            x = a_next * x0 + math.sqrt(1 - beta) * s_next**2 / s * eps
            if t > 1:
                variance = beta if self.variance == "beta" else beta * (s_next / s) ** 2
                x += math.sqrt(variance) * torch.randn(n, 2, generator=rng)
        return x / SCALE

    def state_dict(self) -> dict[str, Tensor]:
        return self.net.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.net.load_state_dict(state)
        self.net.eval()


def schedule(steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """sqrt(abar_t), sqrt(1 - abar_t) and beta_t for t = 0..steps, float64, (steps + 1,); t = 0 is the data."""
    angle = (torch.arange(steps + 1, dtype=torch.float64) / steps + 0.008) / 1.008 * math.pi / 2
    abar = (angle.cos() / angle[0].cos()).square()
    beta = torch.cat([torch.zeros(1, dtype=torch.float64), (1 - abar[1:] / abar[:-1]).clamp(max=0.999)])
    abar = (1 - beta).cumprod(0)
    return abar.sqrt(), (1 - abar).sqrt(), beta


class _Mlp(nn.Module):
    """(n, 2) points at times t (n,) or (1,) -> (n, 2)."""

    def __init__(self, width: int, frequencies: int = 16):
        super().__init__()
        t = torch.arange(STEPS + 1) / STEPS
        phase = t[:, None] * torch.logspace(0, 2.5, frequencies)
        self.register_buffer("features", torch.cat([phase.sin(), phase.cos()], 1), persistent=False)
        self.point, self.time = nn.Linear(2, width), nn.Linear(2 * frequencies, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.out = nn.Linear(width, 2)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        # ReLU: smooth activations gain nothing here, and their exp takes a third of a sample's time
        h = nn.functional.relu(self.point(x) + self.time(self.features[t]))
        for layer in self.hidden:
            h = nn.functional.relu(layer(h))
        return self.out(h)
