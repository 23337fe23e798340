"""Real images, in the form in which images are stored between stages: uint8, NCHW.

CIFAR-10 comes through torchvision's own loader, which checks each file's MD5 before it reads it.
scikit-learn's bundled 8x8 digits need no download and stand in for CIFAR-10 in the `quick` profile.
"""

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import check_integrity

from lib import paths
from lib.checks import BadInput, require
from lib.seeds import derive

DATA = paths.PROJECT / "data"
DATA_VARIABLE = "CURATED_LOOPS_DATA"

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
DIGIT_CLASSES = tuple(str(d) for d in range(10))


def to_float(images: Tensor) -> Tensor:
    """uint8 0..255 => float32 in [-1, 1]; any shape, same device."""
    require(images.dtype == torch.uint8, "images.dtype", images.dtype, "torch.uint8")
    return images.float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """float in [-1, 1] => uint8 0..255, rounded; what lies outside is clipped. Inverse of `to_float`."""
    require(images.is_floating_point(), "images.dtype", images.dtype, "a float type")
    return ((images.float() + 1) * 127.5).round_().clamp_(0, 255).to(torch.uint8)


def cifar10(train: bool) -> tuple[Tensor, Tensor]:
    """CIFAR-10 (Krizhevsky, 2009): images (n, 3, 32, 32) uint8 and labels (n,) int64.

    Looked for in $CURATED_LOOPS_DATA, then in the project's `data/`; where neither has it, torchvision
    downloads it (170 MB) into `data/`.

    Args:
        train: True for the 50,000 training images, False for the 10,000 test images.

    Raises:
        BadInput: a file is missing or altered, or the download failed: what, where, and what to do.
    """
    folder = _cifar10_folder()
    loaded = CIFAR10(folder, train=train)
    images = torch.from_numpy(np.ascontiguousarray(loaded.data.transpose(0, 3, 1, 2)))
    return images, torch.tensor(loaded.targets)


def _cifar10_folder() -> Path:
    """The first place that has the data set, every file checked; downloads it if there is none."""
    named = paths.named(DATA_VARIABLE)
    places = [*([named] if named else []), DATA]
    for place in places:
        if (place / CIFAR10.base_folder).is_dir():
            _require_intact(place / CIFAR10.base_folder)
            return place
    looked = ", ".join(str(place) for place in places)
    try:
        CIFAR10(DATA, download=True)
    except (OSError, RuntimeError) as error:  # torchvision's own reports: no network, disk, MD5
        reason = str(error).splitlines()[0]
        raise BadInput(
            f"CIFAR-10 is not in {looked} and the download failed ({reason}): unpack cifar-10-python.tar.gz "
            f"from {CIFAR10.url} into one of them, or set {DATA_VARIABLE} to the folder that has it"
        ) from error
    return DATA


def _require_intact(folder: Path) -> None:
    meta = (CIFAR10.meta["filename"], CIFAR10.meta["md5"])
    for name, md5 in [*CIFAR10.train_list, *CIFAR10.test_list, meta]:
        path = folder / name
        if not check_integrity(str(path), md5):
            fault = "is altered or truncated (its MD5 is wrong)" if path.is_file() else "is missing"
            raise BadInput(
                f"CIFAR-10: {path} {fault}: delete {folder} and unpack cifar-10-python.tar.gz again, "
                f"or set {DATA_VARIABLE} to a folder with an intact copy"
            )


def digits() -> tuple[Tensor, Tensor]:
    """scikit-learn's bundled digits: images (1797, 1, 8, 8) uint8 and labels (1797,) int64.

    The file's grey levels 0..16 are stretched to 0..255 and rounded.
    """
    pixels, labels = load_digits(return_X_y=True)
    images = np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))


def split(n: int, test_share: float = 0.25, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A fixed random split of 0..n-1: sorted int64 indices (train, test), every index in exactly one.

    Args:
        n: number of rows, >= 2.
        test_share: share of the test part, in (0, 1); at least one row goes to each part.
        seed: one split a seed.
    """
    require(n >= 2, "n", n, ">= 2")
    require(0 < test_share < 1, "test_share", test_share, "in (0, 1)")
    order = np.random.default_rng(derive(seed, "split")).permutation(n)
    n_test = min(max(round(n * test_share), 1), n - 1)
    test, train = (torch.from_numpy(np.sort(part)) for part in (order[:n_test], order[n_test:]))
    return train, test
