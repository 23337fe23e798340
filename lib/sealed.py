"""Files that can be trusted: written whole or not at all, and never believed when damaged.

A file is written under another name, flushed and renamed. Tensors travel with a SHA-256 of their contents; a
file that does not match its own is named, set aside and treated as absent.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor


def write(path: Path, tensors: dict[str, Tensor], info: dict) -> None:
    """Write tensors and JSON-able info as one safetensors file.

    Args:
        path: file to write; its folder exists.
        tensors: any device and memory layout; may share memory.
        info: kept with them, the order of its keys too.

    Raises:
        OSError: it could not be written; what was there before still is.
    """
    tensors = {key: _own(value) for key, value in tensors.items()}
    text = json.dumps(info)
    header = {"info": text, "sha256": content_digest(tensors, text)}
    # one name for the unfinished file: what a kill leaves is overwritten
    replace(path, path.with_suffix(".partial"), lambda partial: save_file(tensors, partial, header))


def read(path: Path) -> tuple[dict[str, Tensor], dict] | None:
    """What `write` wrote, tensors on the CPU; None where there is nothing, or nothing that can be trusted.

    A damaged file is kept beside, as <name>.damaged-<digest>, and a warning names it.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        if content_digest(tensors, header["info"]) == header["sha256"]:
            return tensors, json.loads(header["info"])
        reason = "its checksum does not match its contents"
    except (SafetensorError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0]
    set_aside(path, reason)
    return None


def replace(path: Path, partial: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` write the file `partial`, and rename it to `path` once it is on the disk.

    Raises:
        OSError: it could not be written; what was there before still is.
    """
    try:
        fill(partial)
        _flush(partial)
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:  # safetensors reports a full disk in its own way
        reason = (getattr(error, "strerror", None) or str(error)).splitlines()[0]
        with suppress(OSError):
            partial.unlink()  # its space may be what is missing
        raise OSError(
            f"{path} cannot be written ({reason}): what was finished is kept, the same command goes on"
        ) from error


def set_aside(path: Path, reason: str) -> None:
    """Rename a damaged file to <name>.damaged-<digest> and warn."""
    aside = path.with_suffix(f".damaged-{file_sha256(path)[:8]}")
    os.replace(path, aside)
    warnings.warn(f"{path} is damaged ({reason}): kept as {aside.name}, made again", stacklevel=3)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    replace(path, path.with_name(f".{path.name}.{os.getpid()}.partial"), lambda partial: partial.write_text(text))


def file_sha256(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _flush(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _own(value: Tensor) -> Tensor:
    """A contiguous copy on the CPU: the file holds no shared memory."""
    return value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def content_digest(tensors: dict[str, Tensor], text: str) -> str:
    """SHA-256 of a text and of what contiguous CPU tensors hold, with their names, types and shapes."""
    total = hashlib.sha256(text.encode())
    for key in sorted(tensors):
        total.update(f"{key} {tensors[key].dtype} {tuple(tensors[key].shape)}".encode())
        total.update(tensors[key].reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()
