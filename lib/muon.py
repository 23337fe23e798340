"""Muon (Jordan et al., 2024): momentum whose step on a convolution kernel is made orthogonal.

torch.optim.Muon takes matrices alone and orthogonalises in bfloat16, which a CPU without bf16 units computes at
a seventh of the speed.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan et al.: takes singular values in (0, 1] to about 1 in a few steps


def inner_kernels(net: nn.Module, skip_last: bool) -> list[nn.Parameter]:
    """Convolution kernels but the first (of few channels) and, if asked, the last.

    Args:
        net: its convolutions are in the order in which its modules are registered.
        skip_last: leave out the last, where it writes an image.
    """
    kernels = [layer.weight for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    return kernels[1:-1] if skip_last else kernels[1:]


def orthogonalised(matrix: Tensor, steps: int) -> Tensor:
    """About U V^T of a matrix U S V^T: (rows, columns) -> the same, singular values between about 0.7 and 1.2.

    Newton-Schulz steps X <- (a + b G + c G^2) X with G = X X^T, collected on the smaller side: all factors are
    polynomials of the first G and commute, so the large X is read twice whatever `steps` is.

    Args:
        matrix: float32 (rows, columns).
        steps: Newton-Schulz steps, >= 1; singular values far below the largest need more.
    """
    if len(matrix) > matrix.shape[1]:
        return orthogonalised(matrix.T, steps).T
    a, b, c = QUINTIC
    x = matrix / (matrix.norm() + 1e-7)
    gram = x @ x.T
    factor = torch.eye(len(x), dtype=x.dtype, device=x.device)
    for _ in range(steps):
        step = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        step.diagonal().add_(a)
        factor, gram = step @ factor, step @ gram @ step
    return factor @ x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised.

    A kernel (out, in, h, w) is the matrix (out, in * h * w).

    Args:
        kernels: parameters with at least two dimensions.
        lr: learning rate.
        momentum: in [0, 1).
        steps: of `orthogonalised`.
        fixed_norm: for kernels that batch normalisation follows, to which their scale is nothing: each is first
            set to the norm sqrt(rows), and a step's norm is about lr * sqrt(rows), so none needs decay. Without,
            a step's root mean square is about 0.2 * lr, as Adam's is (Liu et al., 2025): one rate serves both.
    """

    def __init__(
        self, kernels: Iterable[nn.Parameter], lr: float, momentum: float, *, steps: int, fixed_norm: bool
    ):
        options = {"lr": lr, "momentum": momentum, "steps": steps, "fixed_norm": fixed_norm}
        super().__init__(kernels, options)

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for kernel in group["params"]:
                memory = self.state[kernel].setdefault("momentum_buffer", torch.zeros_like(kernel))
                memory.mul_(group["momentum"]).add_(kernel.grad)
                ahead = kernel.grad.add(memory, alpha=group["momentum"]).flatten(1)
                size = 1.0
                if group["fixed_norm"]:
                    kernel.mul_(len(kernel) ** 0.5 / kernel.norm())
                else:
                    size = 0.2 * max(ahead.shape) ** 0.5
                kernel.sub_(orthogonalised(ahead, group["steps"]).view_as(kernel), alpha=group["lr"] * size)
