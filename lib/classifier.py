"""Image classifiers: the reward model, and a second, independently trained one that judges the loop.

VGG11 with batch normalisation at 32x32 (Simonyan and Zisserman, 2015; torchvision's layers with one linear
head), and a small convolutional network for 8x8 digits. Both take stored images, uint8 (n, C, H, W), and
normalise inside.
"""

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.vgg import cfgs

from lib import sealed
from lib.checks import require
from lib.generators.training import (
    NonFiniteLoss,
    autocast,
    progress,
    require_same,
    resolve_precision,
    sharded_backward,
    within_memory,
)
from lib.muon import Muon, inner_kernels
from lib.parallel import one_thread_each, parallel_map
from lib.seeds import derive, torch_rng
from lib.weights import as_described, load_weights, save_weights

KINDS = ("vgg11", "digits")


@dataclass(frozen=True)
class ClassifierSettings:
    """What a classifier is built from.

    Args:
        kind: "vgg11" for (3, 32, 32) images, "digits" for (1, 8, 8).
        width: factor on the published channel counts (64..512 for VGG11, 32..64 for digits).
        classes: number of classes.
    """

    kind: str = "vgg11"
    width: float = 1.0
    classes: int = 10


GREY = 127  # about the mean of the training pixels
LEAST = ClassifierSettings("digits", width=0.01, classes=1)  # to try options on, apart from any card


class Classifier:
    """Class probabilities and features of stored images.

    Args:
        settings: the network.
        seed: of the initial weights.
        device: where it computes.
        precision: "fp32", "bf16" or "auto" (bf16 for VGG11 where the hardware has it); `self.precision` is
            the outcome.
    """

    def __init__(
        self,
        settings: ClassifierSettings,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
        precision: str = "auto",
    ):
        require(settings.kind in KINDS, "kind", settings.kind, f"one of {', '.join(KINDS)}")
        require(settings.width > 0, "width", settings.width, "> 0")
        self.settings, self.device = settings, torch.device(device)
        small = settings.kind == "digits" and precision == "auto"
        self.precision = "fp32" if small else resolve_precision(precision, device)
        with torch.random.fork_rng(devices=[]):  # layers initialise themselves from the global generator
            torch.manual_seed(derive(seed, "weights"))
            net = _Network(settings)
        self.net = net.to(self.device, memory_format=torch.channels_last).eval()

    def probabilities(self, images: Tensor, batch: int = 500) -> Tensor:
        """q(x): uint8 (n, C, H, W) -> (n, classes) float32 on the CPU, each row summing to 1."""
        return self._map(lambda x: self.net(x).float().softmax(dim=1), images, batch, self.settings.classes)

    def features(self, images: Tensor, batch: int = 500) -> Tensor:
        """What the linear head sees: uint8 (n, C, H, W) -> (n, d) float32 on the CPU (d = 512 for VGG11)."""
        return self._map(lambda x: self.net.features(x).float(), images, batch, self.net.head.in_features)

    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """Share of images whose most probable class is their label."""
        require(len(images) == len(labels), "len(labels)", len(labels), f"len(images) = {len(images)}")
        return float((self.probabilities(images).argmax(dim=1) == labels.cpu()).double().mean())

    def _map(self, function: Callable[[Tensor], Tensor], images: Tensor, batch: int, columns: int) -> Tensor:
        _require_images(images, self.net.shape)
        require(batch >= 1, "batch", batch, ">= 1")
        self.net.eval()
        out = torch.empty(len(images), columns)

        @torch.no_grad()
        def fill(start: int) -> None:
            with autocast(self.precision, self.device):
                out[start : start + batch] = function(images[start : start + batch].to(self.device)).cpu()

        with within_memory(f"batch = {batch}"):
            for _ in parallel_map(fill, range(0, len(images), batch), self.device):
                pass
        return out

    def save(self, path: str | Path, card: dict, *, half: bool = False) -> None:
        """Weights to `path` (.safetensors), `card` and the settings to a .json beside it.

        Args:
            path: file to write.
            card: how the weights were made and what they score.
            half: store kernels as float16.
        """
        save_weights(path, self.net.state_dict(), {"classifier": asdict(self.settings), **card}, half=half)

    @classmethod
    def load(cls, path: str | Path, **options) -> "Classifier":
        """A classifier from `save`.

        Args:
            path: the .safetensors file.
            options: `device` and `precision` of the constructor.

        Raises:
            BadInput: the file is no classifier's, or its card does not describe it; what is wrong with `options`
                has the constructor's own error.
        """
        cls(LEAST, **options)  # the caller's mistakes are none of the card's
        state, card = load_weights(path)
        require("classifier" in card, "weights", str(path), "a classifier's")
        with as_described(path):
            classifier = cls(ClassifierSettings(**card["classifier"]), **options)
            classifier.net.load_state_dict(state)
        return classifier


class _Network(nn.Module):
    """uint8 images -> class logits; per-channel mean and spread of the training pixels are part of it."""

    def __init__(self, settings: ClassifierSettings):
        super().__init__()
        if settings.kind == "vgg11":
            self.shape, (layers, width) = (3, 32, 32), _vgg11_layers(settings.width)
        else:
            self.shape, (layers, width) = (1, 8, 8), _digit_layers(settings.width)
        self.layers = nn.Sequential(layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(width, settings.classes)
        self.register_buffer("mean", torch.full((1, self.shape[0], 1, 1), 127.5))
        self.register_buffer("spread", torch.full((1, self.shape[0], 1, 1), 127.5))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def features(self, images: Tensor) -> Tensor:
        x = (images.float() - self.mean) / self.spread
        return self.layers(x.contiguous(memory_format=torch.channels_last))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


class _SmallConv(nn.Conv2d):
    """A 3x3 convolution for maps of few positions and many channels, as one matrix product.

    On a CPU oneDNN's gradient of the kernel is slow there: at 2x2 and 512 channels this takes a sixth of
    its time.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return super().forward(x)
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        patches = padded.unfold(1, 3, 1).unfold(2, 3, 1).permute(0, 1, 2, 4, 5, 3).flatten(3)
        kernel = self.weight.permute(0, 2, 3, 1).flatten(1)
        return F.linear(patches, kernel, self.bias).permute(0, 3, 1, 2)


def _vgg11_layers(factor: float) -> tuple[nn.Sequential, int]:
    """torchvision's configuration A with batch normalisation, and the channels it ends on."""
    layers, width, side = [], 3, 32
    for entry in cfgs["A"]:
        if entry == "M":
            layers.append(nn.MaxPool2d(2))
            side //= 2
            continue
        before, width = width, max(round(entry * factor), 1)
        conv = nn.Conv2d if side > 4 else _SmallConv
        layers += [conv(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers), width


def _digit_layers(factor: float) -> tuple[nn.Sequential, int]:
    layers, channels = [], [1, *(max(round(c * factor), 1) for c in (32, 32, 64))]
    for i in range(3):
        layers += [
            nn.Conv2d(channels[i], channels[i + 1], 3, padding=1),
            nn.BatchNorm2d(channels[i + 1]),
            nn.ReLU(),
        ]
        layers += [nn.MaxPool2d(2)] if i == 1 else []
    return nn.Sequential(*layers), channels[-1]


def train_classifier(
    images: Tensor,
    labels: Tensor,
    *,
    seed: int,
    epochs: int,
    settings: ClassifierSettings = ClassifierSettings(),
    label_smoothing: float = 0.0,
    augment: bool = True,
    erased: int = 0,
    batch: int = 256,
    lr: float = 0.1,
    weight_decay: float = 5e-4,
    muon_lr: float = 0.0,
    shards: int = 1,
    device: str | torch.device = "cpu",
    precision: str = "auto",
    checkpoint: Path | None = None,
    after_epoch: Callable[[int, float, Classifier], None] | None = None,
) -> Classifier:
    """A classifier trained by SGD with Nesterov momentum 0.9, or by Muon and SGD, under one-cycle learning rates.

    Epoch e draws its order and augmentation from (seed, e) alone, so a training resumed from `checkpoint`
    equals an uninterrupted one.

    Args:
        images: uint8 (n, C, H, W).
        labels: int64 (n,), in 0..classes-1.
        seed: of weights, order and augmentation.
        epochs: passes over the images, >= 1.
        settings: the network.
        label_smoothing: probability spread over all classes in the target, in [0, 1).
        augment: random crops after padding by an eighth of the side, and left-right mirroring.
        erased: side in pixels of a grey square put on each image (Cutout: DeVries and Taylor, 2017), >= 0.
        batch: images a step; an incomplete last batch is left out of its epoch.
        lr: peak learning rate.
        weight_decay: on the matrices and kernels that SGD trains.
        muon_lr: peak learning rate of Muon on all kernels but the first; 0: SGD trains them, too.
        shards: parts of each minibatch computed side by side, one thread each, as in
            `lib.generators.training.train`; each normalises over its own rows.
        device: where to train.
        precision: as in `Classifier`.
        checkpoint: file (.safetensors) that holds the state after each epoch while training runs; one of another
            training, or of one on other data, is refused.
        after_epoch: called with (epochs done, mean loss, classifier), e.g. to log the accuracy.
    """
    classifier = Classifier(settings, seed=seed, device=device, precision=precision)
    _require_training_set(images, labels, settings, classifier.net.shape)
    require(isinstance(epochs, int) and epochs >= 1, "epochs", epochs, "an integer >= 1")
    require(1 <= batch <= len(images), "batch", batch, f"in 1..{len(images)}, the number of images")
    require(1 <= shards <= batch, "shards", shards, f"in 1..{batch}, the batch size")
    require(0 <= label_smoothing < 1, "label_smoothing", label_smoothing, "in [0, 1)")
    require(isinstance(erased, int) and erased >= 0, "erased", erased, "an integer >= 0")
    require(lr > 0, "lr", lr, "> 0")
    require(muon_lr >= 0, "muon_lr", muon_lr, ">= 0")
    net, steps = classifier.net, len(images) // batch
    images, labels = images.to(classifier.device), labels.to(classifier.device)
    _normalise_by(net, images)
    optimisers = _optimisers(net, lr, weight_decay, muon_lr)
    about = {
        "seed": seed, "epochs": epochs, "label_smoothing": label_smoothing, "augment": augment, "erased": erased,
        "batch": batch, "lr": lr, "weight_decay": weight_decay, "muon_lr": muon_lr, "shards": shards,
        "network": {name: list(value.shape) for name, value in net.state_dict().items()},
    }  # fmt: skip
    if checkpoint:
        data = {"images": images, "labels": labels}
        about |= {name: sealed.content_digest({name: part.cpu().contiguous()}, "") for name, part in data.items()}
        about["precision"] = classifier.precision
    start = _resume(checkpoint, about, net, optimisers) if checkpoint else 0
    # each shard has its own running statistics (those of the first are kept) and everybody's parameters
    nets = [net, *(copy.deepcopy(net, {id(p): p for p in net.parameters()}) for _ in range(shards - 1))]
    pool, parameters = one_thread_each(shards), list(net.parameters())

    def loss_of(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with autocast(classifier.precision, classifier.device):
            logits = network(x).float()
        return F.cross_entropy(logits, y, label_smoothing=label_smoothing) * (len(x) / batch)

    for epoch in range(start, epochs):
        for network in nets:
            network.train()
        rng, total = torch_rng(derive(seed, "epoch", index=epoch)), torch.zeros((), dtype=torch.float64)
        total = total.to(classifier.device)  # read once an epoch: each reading waits for a GPU
        order = torch.randperm(len(images), generator=rng).to(images.device)[: steps * batch].split(batch)
        bar = progress(order, desc=f"epoch {epoch + 1}/{epochs}", hide=steps < 100)
        for step, chosen in enumerate(bar):
            for optimiser, peak in optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = one_cycle(epoch * steps + step, epochs * steps, peak)
            x, y = images[chosen], labels[chosen]
            x = crop_and_flip(x, rng) if augment else x
            x = cutout(x, erased, rng) if erased else x
            net.zero_grad(set_to_none=True)
            if shards == 1:
                value = loss_of(net, x, y)
                value.backward()
            else:
                parts = zip(nets, x.chunk(shards), y.chunk(shards), strict=False)
                value = sharded_backward(parameters, [partial(loss_of, *part) for part in parts], pool)
            for optimiser, _ in optimisers:
                optimiser.step()
            total += value.detach()
        if not total.isfinite():
            raise NonFiniteLoss(f"loss is not finite in epoch {epoch + 1}: lower the learning rate")
        if checkpoint and epoch + 1 < epochs:
            _save(checkpoint, about | {"epoch": epoch + 1}, net, optimisers)
        net.eval()
        if after_epoch:
            after_epoch(epoch + 1, float(total) / steps, classifier)
    return classifier


def one_cycle(step: int, steps: int, peak: float) -> float:
    """Learning rate: up from 0 to `peak` over the first quarter of the steps, then straight down to 0."""
    up = max(steps / 4, 1)
    return peak * min((step + 1) / up, (steps - step) / (steps - up + 1), 1.0)


def crop_and_flip(images: Tensor, rng: torch.Generator) -> Tensor:
    """Each image shifted by up to an eighth of its side (black outside), and mirrored with probability 1/2.

    Any dtype, (n, C, H, W) -> the same shape, in channels-last memory.
    """
    n, _, height, width = images.shape
    pad = height // 8
    padded = F.pad(images, (pad, pad, pad, pad)).permute(0, 2, 3, 1)
    top, left = torch.randint(0, 2 * pad + 1, (2, n, 1), generator=rng)
    rows, columns = top + torch.arange(height), left + torch.arange(width)
    mirrored = torch.rand(n, 1, generator=rng) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    i, rows, columns = (x.to(images.device) for x in (torch.arange(n), rows, columns))
    return padded[i[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cutout(images: Tensor, side: int, rng: torch.Generator) -> Tensor:
    """A grey square put on each image, its middle anywhere in it: uint8 (n, C, H, W) -> the same."""
    n, _, height, width = images.shape
    down, across = (
        (torch.arange(length) + 0.5 - length * torch.rand(n, 1, generator=rng)).abs() < side / 2
        for length in (height, width)
    )
    hidden = down[:, None, :, None] & across[:, None, None, :]
    return images.masked_fill(hidden.to(images.device), GREY)


def _normalise_by(net: _Network, images: Tensor) -> None:
    pixels = images.transpose(0, 1).flatten(1)
    for c, channel in enumerate(pixels):
        net.mean[0, c], net.spread[0, c] = channel.float().mean(), channel.float().std() + 1e-3


def _optimisers(
    net: nn.Module, lr: float, weight_decay: float, muon_lr: float
) -> list[tuple[torch.optim.Optimizer, float]]:
    """Each with its peak learning rate; together they have every parameter once."""
    kernels = inner_kernels(net, skip_last=False) if muon_lr else []
    rest = [p for p in net.parameters() if all(p is not kernel for kernel in kernels)]
    decayed, free = [p for p in rest if p.ndim >= 2], [p for p in rest if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
    sgd = torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True)
    if not kernels:
        return [(sgd, lr)]
    return [(sgd, lr), (Muon(kernels, muon_lr, 0.6, steps=3, fixed_norm=True), muon_lr)]


def _momentum(net: nn.Module, optimisers: list) -> dict[str, dict]:
    """The optimiser state of each parameter, by the parameter's name."""
    owner = {p: optimiser for optimiser, _ in optimisers for g in optimiser.param_groups for p in g["params"]}
    return {name: owner[p].state[p] for name, p in net.named_parameters()}


def _save(path: Path, info: dict, net: nn.Module, optimisers: list) -> None:
    tensors = {f"net.{name}": value for name, value in net.state_dict().items()}
    states = _momentum(net, optimisers)
    tensors |= {f"momentum.{name}": state["momentum_buffer"] for name, state in states.items()}
    sealed.write(path, tensors, info)


@torch.no_grad()
def _resume(path: Path, about: dict, net: nn.Module, optimisers: list) -> int:
    """Epochs already done; 0 where there is no checkpoint, or none that can be trusted."""
    found = sealed.read(path)
    if found is None:
        return 0
    tensors, info = found
    require_same(path, info, about)
    net.load_state_dict({name: tensors[f"net.{name}"] for name in net.state_dict()})
    parameters = dict(net.named_parameters())
    for name, state in _momentum(net, optimisers).items():
        state["momentum_buffer"] = torch.empty_like(parameters[name]).copy_(tensors[f"momentum.{name}"])
    return info["epoch"]


def _require_images(images: Tensor, shape: tuple[int, ...]) -> None:
    require(images.dtype == torch.uint8, "images.dtype", images.dtype, "torch.uint8")
    allowed = f"(n, {', '.join(map(str, shape))})"
    require(tuple(images.shape[1:]) == shape, "images.shape", tuple(images.shape), allowed)


def _require_training_set(images: Tensor, labels: Tensor, settings: ClassifierSettings, shape: tuple) -> None:
    _require_images(images, shape)
    require(labels.dtype == torch.int64, "labels.dtype", labels.dtype, "torch.int64")
    require(labels.shape == images.shape[:1], "labels.shape", tuple(labels.shape), f"({len(images)},)")
    inside = len(labels) == 0 or (int(labels.min()) >= 0 and int(labels.max()) < settings.classes)
    require(inside, "labels", "some outside", f"in 0..{settings.classes - 1}")
