"""Training with Muon on the inner kernels: who trains what, by how much, and what is refused."""

import itertools

import pytest
import torch
from torch import nn

from lib.checks import BadInput
from lib.generators.training import train
from lib.muon import orthogonalised
from lib.seeds import torch_rng

IMAGES = torch.rand(20, 3, 6, 6, generator=torch_rng(0))


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        widths = itertools.pairwise([3, 8, 8, 3])
        return nn.Sequential(*(nn.Conv2d(a, b, 3, padding=1) for a, b in widths))


def loss_of(net):
    return lambda x, rng: (net(x + torch.randn(x.shape, generator=rng)) - x).square().mean()


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_one_step_moves_the_inner_kernel_by_muon_and_the_rest_as_adam_does():
    adam, muon, still = network(), network(), network()
    options = {"seed": 0, "batch": 20, "lr": 1e-2, "ema_decay": 0.0, "clip": 1e9}
    train(adam, loss_of(adam), IMAGES, 1, **options)
    gradients = []
    muon[1].weight.register_hook(lambda g: gradients.append(g.clone()))
    train(muon, loss_of(muon), IMAGES, 1, muon_lr=3e-2, **options)
    for name, value in muon.named_parameters():
        if name != "1.weight":
            torch.testing.assert_close(value, adam.get_parameter(name), msg=name)
    step = 0.2 * 72**0.5 * 3e-2 * orthogonalised(gradients[0].flatten(1), 5).view(8, 8, 3, 3)
    torch.testing.assert_close(muon[1].weight, still[1].weight - step)
    assert 0.1 < float((step / 3e-2).square().mean().sqrt()) < 0.3  # of the size of an Adam step


def test_both_rates_follow_the_schedule():
    """At the very start of a long warm-up neither moves a weight."""
    options = {"seed": 0, "batch": 20, "lr": 1e-2, "muon_lr": 1e-2, "ema_decay": 0.0}
    whole, slow = network(), network()
    train(whole, loss_of(whole), IMAGES, 1, **options)
    train(slow, loss_of(slow), IMAGES, 1, warmup=10**6, **options)
    start = weights(network())
    assert float((weights(whole) - start).abs().max()) > 1e-3
    assert float((weights(slow) - start).abs().max()) < 1e-7


def test_a_checkpoint_of_adam_alone_is_refused(tmp_path):
    path, net = tmp_path / "c.safetensors", network()
    options = {"seed": 0, "batch": 6, "lr": 0.01, "checkpoint": path, "checkpoint_every": 2}

    def killed(x, rng):
        if path.exists():
            raise InterruptedError
        return loss_of(net)(x, rng)

    with pytest.raises(InterruptedError):
        train(net, killed, IMAGES, 9, **options)
    with pytest.raises(BadInput, match="delete it to start anew"):
        train(network(), loss_of(net), IMAGES, 9, muon_lr=0.01, **options)


def test_a_network_without_inner_kernels_is_refused():
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))
    with pytest.raises(BadInput, match=r"muon_lr = 0\.1: must be 0 for a network of fewer than 3 convolutions"):
        train(net, loss_of(net), IMAGES, 0, seed=0, batch=2, lr=0.1, muon_lr=0.1)
