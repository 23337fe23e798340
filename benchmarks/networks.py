"""The contenders of the image benchmarks: our flows, and torchcfm's matcher with its own U-Net as published.

Tong et al. train CIFAR-10 with `examples/images/cifar10/train_cifar10.py`: float32, Adam at 2e-4, gradient norm
clipped at 1, EMA 0.9999 over the state dict, minibatch OT by POT. The loop below does the same work.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchcfm.conditional_flow_matching import ExactOptimalTransportConditionalFlowMatcher
from torchcfm.models.unet.unet import UNetModelWrapper

from lib.datasets import to_float
from lib.generators.flow import Flow
from lib.generators.networks import ConvSettings, UNetSettings

SHAPE = (3, 32, 32)
SIZES = ("published", "cifar")  # 35.7 M parameters, and the `cifar` profile's


def ours(size: str, device: str, **options) -> Flow:
    """Our flow at a size in SIZES."""
    return Flow(UNetSettings() if size == "published" else ConvSettings(), device=device, flip=True, **options)


def theirs(size: str, device: str) -> nn.Module:
    """torchcfm's U-Net: as published, or one whose cost is nearest to that of the `cifar` profile's network."""
    made = {"num_res_blocks": 2, "num_channels": 128, "channel_mult": [1, 2, 2, 2]}
    if size == "cifar":
        made = {"num_res_blocks": 1, "num_channels": 64, "channel_mult": [1, 1, 2]}
    net = UNetModelWrapper(
        dim=SHAPE, num_heads=4, num_head_channels=64, attention_resolutions="16", dropout=0.1, **made
    )
    return net.to(device)


def gflop(call: Callable[[Tensor, Tensor], Tensor], device: str) -> float:
    """GFLOP of one forward pass of one image, a multiplication and an addition counted as two."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call(torch.zeros(1, *SHAPE, device=device), torch.zeros(1, device=device))
    return counter.get_total_flops() / 1e9


def their_steps(net: nn.Module, images: Tensor, batch: int, device: str) -> Callable[[int], None]:
    """A function that trains torchcfm's network for a number of steps."""
    matcher = ExactOptimalTransportConditionalFlowMatcher(sigma=0.0)
    optimiser, average = torch.optim.Adam(net.parameters(), lr=2e-4), copy.deepcopy(net)

    def steps(n: int) -> None:
        net.train()
        for _ in range(n):
            optimiser.zero_grad()
            x1 = to_float(images[torch.randint(len(images), (batch,))]).to(device)
            t, x, target = matcher.sample_location_and_conditional_flow(torch.randn_like(x1), x1)
            (net(t, x) - target).square().mean().backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            kept, new = average.state_dict(), net.state_dict()
            for key in new:
                kept[key].data.copy_(kept[key].data * 0.9999 + new[key].data * (1 - 0.9999))

    return steps
