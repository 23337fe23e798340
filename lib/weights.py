"""Network weights on disk: a safetensors file, and beside it a JSON card that says how they were made."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lib import sealed
from lib.checks import BadInput


def save_weights(path: str | Path, state: dict[str, Tensor], card: dict, *, half: bool = False) -> None:
    """Write `path` (.safetensors) and its card `path` (.json), each whole or not at all.

    Args:
        path: file to write; its folder is made.
        state: a network's state dict.
        card: what a reader needs to use and to judge the weights; anything JSON can hold.
        half: store matrices and kernels as float16 (half the bytes, relative error 2^-11); vectors and
            normalisation statistics, which are few and touchy, stay float32.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: _stored(value, half) for name, value in state.items()}
    text = json.dumps(card, indent=2) + "\n"
    sealed.replace(path, path.with_suffix(".partial"), lambda partial: save_file(tensors, partial))
    sealed.write_text(path.with_suffix(".json"), text)


def _stored(value: Tensor, half: bool) -> Tensor:
    value = value.detach().cpu().contiguous()
    return value.half() if half and value.ndim >= 2 and value.is_floating_point() else value


def load_weights(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """The state dict (floats widened to float32) and the card written by `save_weights`.

    Nothing in either file is ever executed.

    Raises:
        BadInput: one of the two is missing, truncated or not what its name says.
    """
    path = Path(path)
    reading = path.with_suffix(".json")
    try:
        card = json.loads(reading.read_text())
        if not isinstance(card, dict):
            raise ValueError(f"a JSON object was expected, not {type(card).__name__}")
        reading = path
        state = load_file(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise BadInput(
            f"weights {path}: {reading.name} is not readable ({error}): train them again or restore the file"
        ) from error
    return {k: v.float() if v.dtype == torch.float16 else v for k, v in state.items()}, card


@contextmanager
def as_described(path: str | Path) -> Iterator[None]:
    """Build a network in the body from a card and fill it.

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
