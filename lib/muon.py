"""Muon (Jordan et al., 2024): momentum whose step on a convolution kernel is made orthogonal.

torch.optim.Muon takes matrices alone and orthogonalises in bfloat16, which a CPU without bf16 units computes at
a seventh of the speed.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan et al.: takes singular values in (0, 1] to about 1 in a few steps


def orthogonalised(matrix: Tensor, steps: int = 3) -> Tensor:
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
    """Nesterov momentum, orthogonalised; each kernel is first set to the norm sqrt(rows), so none needs decay.

    A kernel (out, in, h, w) is the matrix (out, in * h * w). Meant for kernels followed by batch normalisation,
    to which their scale is nothing.

    Args:
        kernels: parameters with at least two dimensions.
        lr: learning rate; a step's norm is about lr * sqrt(rows).
        momentum: in [0, 1).
    """

    def __init__(self, kernels: Iterable[nn.Parameter], lr: float, momentum: float = 0.6):
        super().__init__(kernels, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for kernel in group["params"]:
                memory = self.state[kernel].setdefault("momentum_buffer", torch.zeros_like(kernel))
                memory.mul_(group["momentum"]).add_(kernel.grad)
                ahead = kernel.grad.add(memory, alpha=group["momentum"])
                kernel.mul_(len(kernel) ** 0.5 / kernel.norm())
                kernel.sub_(orthogonalised(ahead.flatten(1)).view_as(kernel), alpha=group["lr"])
