"""Velocity networks v(x, t) for images: x (n, C, H, W), t (n,) in [0, 1] -> (n, C, H, W).

Each is described by a frozen dataclass of plain numbers, so that a saved model says how to build itself.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.checks import require

TIME_SCALE = 1000  # t in [0, 1] => the range in which sinusoidal time features are usually read


@dataclass(frozen=True)
class UNetSettings:
    """diffusers' U-Net. The defaults are the published CIFAR-10 size (35.7 M parameters).

    Args:
        shape: (C, H, W) of an image.
        channels: channels at each level; H and W halve from level to level.
        blocks: residual blocks a level.
        attention: which levels have self-attention (level 1 of 32x32 images is 16x16).
        groups: groups of each GroupNorm; divides every entry of `channels` into groups of two or more (one
            channel by itself would have the time, which is added to whole channels, normalised away).
    """

    shape: Sequence[int] = (3, 32, 32)
    channels: Sequence[int] = (128, 256, 256, 256)
    blocks: int = 2
    attention: Sequence[int] = (1,)
    groups: int = 32


@dataclass(frozen=True)
class ConvSettings:
    """A U-Net laid out for matrix units. The defaults are the `cifar` profile's.

    Args:
        shape: (C, H, W) of an image; `patch` times a power of 2 for each further level divides H and W.
        channels: channels at each level, multiples of 32.
        blocks: residual blocks a level.
        patch: side of the squares of pixels that become one position's channels at the first level.
        attention: whether the coarsest level has self-attention (its channels: a multiple of 64).
    """

    shape: Sequence[int] = (3, 32, 32)
    channels: Sequence[int] = (128, 192)
    blocks: int = 1
    patch: int = 2
    attention: bool = True


@dataclass(frozen=True)
class MlpSettings:
    """A residual MLP on flattened images; the defaults suit 8x8 digits.

    Args:
        shape: (C, H, W) of an image.
        width: hidden units.
        blocks: residual blocks.
    """

    shape: Sequence[int] = (1, 8, 8)
    width: int = 256
    blocks: int = 3


NetSettings = UNetSettings | ConvSettings | MlpSettings
_KINDS = {"unet": UNetSettings, "conv": ConvSettings, "mlp": MlpSettings}


def build(settings: NetSettings) -> nn.Module:
    """The network that `settings` describe, on torch's current default device."""
    require(len(settings.shape) == 3, "shape", settings.shape, "(channels, height, width)")
    if isinstance(settings, UNetSettings):
        return UNet(settings)
    if isinstance(settings, ConvSettings):
        return ConvUNet(settings)
    return Mlp(settings)


def settings_to_dict(settings: NetSettings) -> dict:
    """Plain values for a card; `settings_from_dict` is the way back."""
    kind = next(name for name, cls in _KINDS.items() if isinstance(settings, cls))
    return {"kind": kind, **asdict(settings)}


def settings_from_dict(values: dict) -> NetSettings:
    """Settings from {"kind": "unet" | "conv" | "mlp", fields...}; lists become tuples."""
    kind = values.get("kind")
    require(kind in _KINDS, "kind", kind, f"one of {', '.join(_KINDS)}")
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k != "kind"}
    unknown = sorted(set(fields) - set(_KINDS[kind].__dataclass_fields__))
    require(not unknown, f"{kind} settings", unknown, f"among {', '.join(_KINDS[kind].__dataclass_fields__)}")
    return _KINDS[kind](**fields)


class UNet(nn.Module):
    """`diffusers.UNet2DModel`, called as v(x, t)."""

    def __init__(self, settings: UNetSettings):
        from diffusers import UNet2DModel  # takes seconds to import, and no other network needs it
        from diffusers.models.upsampling import Upsample2D

        super().__init__()
        s, levels = settings, len(settings.channels)
        fits = all(c % s.groups == 0 and c > s.groups for c in s.channels)
        require(fits, "channels", s.channels, f"multiples of groups = {s.groups} and larger")
        _require_halvable(s.shape, levels)
        down = ["AttnDownBlock2D" if i in s.attention else "DownBlock2D" for i in range(levels)]
        up = ["AttnUpBlock2D" if i in s.attention else "UpBlock2D" for i in reversed(range(levels))]
        self.net = UNet2DModel(
            sample_size=tuple(s.shape[1:]),
            in_channels=s.shape[0],
            out_channels=s.shape[0],
            layers_per_block=s.blocks,
            block_out_channels=tuple(s.channels),
            down_block_types=tuple(down),
            up_block_types=tuple(up),
            attention_head_dim=min(64, *s.channels),
            norm_num_groups=s.groups,
        )
        for name, layer in list(self.net.named_modules()):
            if isinstance(layer, nn.GroupNorm):
                self.net.set_submodule(name, GroupNorm(layer.num_groups, layer.num_channels, layer.eps))
            elif isinstance(layer, Upsample2D):
                self.net.set_submodule(name, Doubled(layer.conv))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.net(x, t * TIME_SCALE).sample

    def train(self, mode: bool = True) -> "UNet":
        """Stay in evaluation: in training mode shortcuts copy their input out of channels-last memory, no more."""
        return super().train(False)


class GroupNorm(nn.GroupNorm):
    """GroupNorm in channels-last memory at the price of its arithmetic; in float32, as autocast has it on a GPU.

    PyTorch's CPU code for bfloat16 in such memory is slow for groups of fewer than 16 channels: in all of the
    gradient, and in the value below 32x32 positions. The way through float32 takes half the time. Its GPU code
    copies the input to channels-first memory, and convolutions copy it back: a fifth of a compiled step's time.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cuda" and torch.compiler.is_compiling():
            return self.by_channels(x)
        slow = torch.is_grad_enabled() or x.shape[2:].numel() < 1024
        if slow and x.dtype == torch.bfloat16 and x.device.type == "cpu":
            return super().forward(x.float()).to(x.dtype)
        return super().forward(x)

    def by_channels(self, x: Tensor) -> Tensor:
        """The same from each channel's mean and variance: operations for a compiler to fuse, float32."""
        x, places = x.float(), tuple(range(2, x.ndim))
        variances, means = torch.var_mean(x, dim=places, correction=0)
        variances, means = (each.unflatten(1, (self.num_groups, -1)) for each in (variances, means))
        mean = means.mean(2, keepdim=True)
        variance = (variances + (means - mean).square()).mean(2, keepdim=True)
        scale = (variance + self.eps).rsqrt() * self.weight.unflatten(0, (self.num_groups, -1))
        shift = self.bias.unflatten(0, (self.num_groups, -1)) - mean * scale
        scale, shift = (each.flatten(1)[(..., *[None] * len(places))] for each in (scale, shift))
        return x * scale + shift


class Doubled(nn.Module):
    """A convolution of the input at twice its height and width, each position repeated.

    In place of diffusers' layer, which leaves channels-last memory for batches of 64 and more; the gradient of
    `expand` is a sum, where that of interpolation scatters.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor, _size: None = None) -> Tensor:
        n, c, h, w = x.shape
        rows = x.permute(0, 2, 3, 1)[:, :, None, :, None].expand(n, h, 2, w, 2, c)
        return self.conv(rows.reshape(n, 2 * h, 2 * w, c).permute(0, 3, 1, 2))


class ConvUNet(nn.Module):
    """Residual U-Net on patches, with LayerNorm over the channels of each position.

    On a CPU a step's time goes to whatever is not a convolution. Patches move the work from 32x32 positions
    of few channels to 16x16 of many: the same arithmetic over half the memory traffic; and LayerNorm over
    channels-last memory takes a fifth of GroupNorm's time, which was a third of the whole.
    """

    def __init__(self, settings: ConvSettings):
        super().__init__()
        s = settings
        require(all(c % 32 == 0 for c in s.channels), "channels", s.channels, "multiples of 32")
        require(not s.attention or s.channels[-1] % 64 == 0, "channels", s.channels, "64 k at the last level")
        require(s.patch >= 1 and all(side % s.patch == 0 for side in s.shape[1:]), "patch", s.patch,
                f"a divisor of height and width {tuple(s.shape[1:])}")  # fmt: skip
        _require_halvable(s.shape, len(s.channels), s.patch)
        pixels, features = s.shape[0] * s.patch**2, 2 * s.channels[0]
        self.patch = s.patch
        self.time = nn.Sequential(nn.Linear(64, features), nn.SiLU(), nn.Linear(features, features), nn.SiLU())
        self.enter = nn.Conv2d(pixels, s.channels[0], 3, padding=1)
        self.down, self.up, skips = nn.ModuleList(), nn.ModuleList(), [s.channels[0]]
        width = s.channels[0]
        for level, out in enumerate(s.channels):
            if level:
                self.down.append(_Timeless(nn.Conv2d(width, width, 3, stride=2, padding=1)))
                skips.append(width)
            for _ in range(s.blocks):
                self.down.append(ResidualBlock(width, out, features))
                width = out
                skips.append(width)
        attention = [Attention(width)] if s.attention else []
        self.middle = nn.ModuleList(
            [ResidualBlock(width, width, features), *attention, ResidualBlock(width, width, features)]
        )
        for level, out in reversed(list(enumerate(s.channels))):
            for _ in range(s.blocks + 1):
                self.up.append(ResidualBlock(width + skips.pop(), out, features))
                width = out
            if level:
                grow = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1))
                self.up.append(_Timeless(grow))
        self.leave = nn.Sequential(ChannelNorm(width), nn.SiLU(), nn.Conv2d(width, pixels, 3, padding=1))
        nn.init.zeros_(self.leave[-1].weight)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        time = self.time(_time_features(t, 64))
        x = self.enter(F.pixel_unshuffle(x, self.patch).contiguous(memory_format=torch.channels_last))
        skips = [x]
        for block in self.down:
            x = block(x, time)
            skips.append(x)
        for block in self.middle:
            x = block(x, time)
        for block in self.up:
            x = block(torch.cat([x, skips.pop()], dim=1) if isinstance(block, ResidualBlock) else x, time)
        return F.pixel_shuffle(self.leave(x), self.patch)


class ResidualBlock(nn.Module):
    """x + conv(SiLU(norm(conv(SiLU(norm(x))) + time))); a 1x1 convolution where the width changes."""

    def __init__(self, width: int, out: int, time_features: int):
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(width), ChannelNorm(out)
        self.conv1 = nn.Conv2d(width, out, 3, padding=1)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.time = nn.Linear(time_features, out)
        self.skip = nn.Conv2d(width, out, 1) if width != out else nn.Identity()
        nn.init.zeros_(self.conv2.weight)  # starts as the identity

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x))) + self.time(time)[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


class Attention(nn.Module):
    """x + self-attention over positions, heads of 64 channels."""

    def __init__(self, width: int):
        super().__init__()
        self.heads = width // 64
        self.norm, self.qkv, self.out = (
            ChannelNorm(width),
            nn.Conv2d(width, 3 * width, 1),
            nn.Conv2d(width, width, 1),
        )
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor, _time: Tensor) -> Tensor:
        n, c, h, w = x.shape
        rows = self.qkv(self.norm(x)).permute(0, 2, 3, 1).reshape(n, h * w, 3, self.heads, 64)
        q, k, v = rows.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, h, w, c)
        return x + self.out(y.permute(0, 3, 1, 2))


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each position of (n, C, H, W); no copy in channels-last memory."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _Timeless(nn.Module):
    """Lets a layer that does not see the time stand in a list of blocks that do."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, _time: Tensor) -> Tensor:
        return self.layer(x)


class Mlp(nn.Module):
    """Residual MLP on flattened images: h + SiLU-MLP(LayerNorm(h) + time), `blocks` times."""

    def __init__(self, settings: MlpSettings):
        super().__init__()
        pixels, width = math.prod(settings.shape), settings.width
        self.enter = nn.Linear(pixels, width)
        self.time = nn.Sequential(nn.Linear(32, width), nn.SiLU(), nn.Linear(width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(settings.blocks))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(settings.blocks)
        )
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, pixels))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h, time = self.enter(x.flatten(1)), self.time(_time_features(t, 32))
        for norm, block in zip(self.norms, self.blocks, strict=True):
            h = h + block(norm(h) + time)
        return self.leave(h).reshape(x.shape)


def _time_features(t: Tensor, n: int) -> Tensor:
    """Sines and cosines of t at n / 2 frequencies from 1 to TIME_SCALE radians: (len(t), n)."""
    powers = torch.linspace(0, math.log(TIME_SCALE), n // 2, device=t.device)
    angles = t[:, None] * powers.exp()
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _require_halvable(shape: Sequence[int], levels: int, patch: int = 1) -> None:
    factor = patch * 2 ** (levels - 1)
    fits = all(side % factor == 0 and side >= factor for side in shape[1:])
    allowed = f"multiples of {factor} for {levels} levels" + (f" and patches of {patch}" if patch > 1 else "")
    require(fits, "height, width", tuple(shape[1:]), allowed)
