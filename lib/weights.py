"""Network weights on disk: a safetensors file, and beside it a JSON card that says how they were made."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lib import sealed
from lib.checks import BadInput

SEAL = "weights_sha256"  # the card's key for the SHA-256 of the weights' file


def save_weights(path: str | Path, state: dict[str, Tensor], card: dict, *, half: bool = False) -> None:
    """Write `path` (.safetensors) and its card `path` (.json), each whole or not at all.

    Args:
        path: file to write; its folder is made.
        state: a network's state dict.
        card: what a reader needs to use and to judge the weights; anything JSON can hold. The file's SHA-256
            is added to it.
        half: store matrices and kernels as float16 (half the bytes, relative error 2^-11); vectors and
            normalisation statistics, which are few and touchy, stay float32.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = save({name: _stored(value, half) for name, value in state.items()})
    text = json.dumps({**card, SEAL: hashlib.sha256(content).hexdigest()}, indent=2) + "\n"
    sealed.replace(path, path.with_suffix(".partial"), lambda partial: partial.write_bytes(content))
    sealed.write_text(path.with_suffix(".json"), text)


def _stored(value: Tensor, half: bool) -> Tensor:
    value = value.detach().cpu().contiguous()
    matrix = value.squeeze().ndim >= 2  # a statistic of each channel may come as (1, C, 1, 1)
    return value.half() if half and matrix and value.is_floating_point() else value


def load_weights(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """The state dict (floats widened to float32) and the card written by `save_weights`.

    Nothing in either file is ever executed. A card without the weights' SHA-256 is taken at its word.

    Raises:
        BadInput: one of the two is missing, truncated or not what its name says, or they are no pair.
    """
    path = Path(path)
    reading = path.with_suffix(".json")
    try:
        card = json.loads(reading.read_text())
        if not isinstance(card, dict):
            raise ValueError(f"a JSON object was expected, not {type(card).__name__}")
        reading = path
        content = path.read_bytes()
        state = load(content)
    except (OSError, ValueError, SafetensorError) as error:
        raise BadInput(
            f"weights {path}: {reading.name} is not readable ({error}): train them again or restore the file"
        ) from error
    if SEAL in card and card[SEAL] != hashlib.sha256(content).hexdigest():
        raise BadInput(
            f"weights {path}: {path.stem}.json is the card of other weights (another SHA-256): "
            "train them again or restore the files"
        )
    return {k: v.float() if v.dtype == torch.float16 else v for k, v in state.items()}, card


@contextmanager
def as_described(path: str | Path) -> Iterator[None]:
    """Build a network in the body from a card and fill it.

    A caller's own options are to be tried before, without the card: in the body, their errors pass for its.

    Raises:
        BadInput: the card describes no network, or another one than the weights are of.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(
            f"weights {path}: the card does not describe them ({reason}): train them again or restore the files"
        ) from error
