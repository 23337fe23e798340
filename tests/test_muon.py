"""Muon against the singular values it is about, and its step against plain formulas."""

import pytest
import torch

from lib.muon import QUINTIC, Muon, orthogonalised
from lib.seeds import torch_rng


def matrix(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch_rng(seed))


@pytest.mark.parametrize("shape", [(5, 40), (40, 5), (7, 7)])
@pytest.mark.parametrize("steps", [1, 3])
def test_orthogonalising_moves_the_singular_values_alone(shape, steps):
    """Each goes through the scalar quintic, applied `steps` times; singular vectors stay."""
    m = matrix(*shape).double()
    u, s, v = torch.linalg.svd(m, full_matrices=False)
    s, (a, b, c) = s / s.norm(), QUINTIC
    for _ in range(steps):
        s = a * s + b * s**3 + c * s**5
    torch.testing.assert_close(orthogonalised(m, steps), u * s @ v, atol=1e-6, rtol=1e-6)


def test_three_steps_bring_a_kernel_of_noise_close_to_orthogonal():
    before, after = (torch.linalg.svdvals(m) for m in (matrix(64, 576), orthogonalised(matrix(64, 576), 3)))
    assert float(before.max() / before.min()) > 1.9
    assert float(after.max() / after.min()) < 1.5
    assert float(after.min()) > 0.65  # the quintic leaves them between about 0.68 and 1.2
    assert float(after.max()) < 1.25


@pytest.mark.parametrize("fixed_norm", [True, False])
def test_a_step_is_nesterov_momentum_orthogonalised(fixed_norm):
    kernel = torch.nn.Parameter(matrix(6, 36).view(6, 4, 3, 3).to(memory_format=torch.channels_last))
    expected, memory = kernel.detach().clone(), torch.zeros(6, 36)
    optimiser = Muon([kernel], lr=0.1, momentum=0.5, steps=3, fixed_norm=fixed_norm)
    for i in range(3):
        gradient = matrix(6, 36, seed=i + 1)
        kernel.grad = gradient.view_as(kernel).contiguous(memory_format=torch.channels_last)
        optimiser.step()
        memory = 0.5 * memory + gradient
        expected = expected * 6**0.5 / expected.norm() if fixed_norm else expected
        size = 0.1 if fixed_norm else 0.1 * 0.2 * 36**0.5
        expected = expected - size * orthogonalised(gradient + 0.5 * memory, 3).view_as(expected)
        torch.testing.assert_close(kernel.detach(), expected)
    assert torch.equal(optimiser.state[kernel]["momentum_buffer"].flatten(1), memory)


@pytest.mark.parametrize("shape", [(8, 32, 1, 1), (32, 8, 1, 1)])
def test_steps_are_of_one_size_on_wide_and_on_tall_kernels(shape):
    kernel = torch.nn.Parameter(torch.zeros(shape))
    kernel.grad = torch.randn(shape, generator=torch_rng(0))
    Muon([kernel], lr=1.0, momentum=0.0, steps=5, fixed_norm=False).step()
    assert float(kernel.detach().square().mean().sqrt()) == pytest.approx(0.2, rel=0.25)
