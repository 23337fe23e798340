"""Where a run lives on disk: atomic, self-checking, resumable; and where a result came from.

A run folder holds `settings.json` and one file a round. A file is written under another name, flushed and
renamed, and carries a SHA-256 of its contents: one that does not match is named, set aside and made again.
"""

import fcntl
import hashlib
import json
import os
import platform
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lib import paths

# What these say never changes what a run computes.
READERS = {
    "animation.py",
    "claims.py",
    "controls.py",
    "explorer.py",
    "figures.py",
    "image_claims.py",
    "image_figures.py",
    "parametric.py",
    "pretrain.py",
    "products.py",
    "recorded.py",
    "report.py",
    "reproduce.py",
    "stage.py",
    "statements.py",
    "taste.py",
    "verify.py",
}
PACKAGES = ("torch", "numpy", "scipy")


class Store:
    """One run folder.

    Args:
        folder: made when missing.
        settings: JSON-able; everything that tells this run from another.
    """

    def __init__(self, folder: Path, settings: dict):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / "settings.json", json.dumps(settings, indent=1, sort_keys=True) + "\n")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One process at a time in this folder; the next one waits and then finds the work done."""
        with open(self.folder / "lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def save(self, name: str, tensors: dict[str, Tensor], info: dict) -> None:
        """Write tensors and JSON-able info as one file, whole or not at all."""
        tensors = {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}  # none shared
        text = json.dumps(info)  # keeps the order of columns
        path = self._path(name)
        partial = path.with_suffix(".partial")
        save_file(tensors, partial, {"info": text, "sha256": _content_digest(tensors, text)})
        _flush(partial)
        os.replace(partial, path)

    def load(self, name: str) -> tuple[dict[str, Tensor], dict] | None:
        """What `save` wrote; None where there is nothing, or nothing that can be trusted."""
        path = self._path(name)
        if not path.exists():
            return None
        try:
            with safe_open(path, "pt") as file:
                header = file.metadata()
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
            if _content_digest(tensors, header["info"]) == header["sha256"]:
                return tensors, json.loads(header["info"])
            reason = "its checksum does not match its contents"
        except (SafetensorError, KeyError, TypeError, OSError) as error:
            reason = str(error).splitlines()[0]
        aside = path.with_suffix(f".damaged-{file_sha256(path)[:8]}")
        os.replace(path, aside)
        warnings.warn(f"{path} is damaged ({reason}): kept as {aside.name}, made again", stacklevel=2)
        return None

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


def folder(name: str, settings: dict) -> Path:
    """The folder of a run: its name, a digest of its settings, and one of the code that computes it."""
    return paths.runs() / f"{name}-{digest(settings)[:8]}-{code_digest()[:8]}"


def digest(settings: dict) -> str:
    """SHA-256 of JSON-able settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def code_digest() -> str:
    """SHA-256 of the files of lib/ that decide what a run computes."""
    total = hashlib.sha256()
    root = paths.PROJECT / "lib"
    for path in sorted(root.rglob("*.py")):
        if path.name not in READERS:
            total.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return total.hexdigest()


def provenance() -> dict:
    """Commit, code, machine and versions behind a result computed now."""
    return {
        "commit": _git("rev-parse", "HEAD") or "not a git checkout",
        "clean_tree": _git("status", "--porcelain", "--untracked-files=no") == "",
        "code_sha256": code_digest(),
        "processor": platform.processor() or platform.machine(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text)
    _flush(partial)
    os.replace(partial, path)


def _flush(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _content_digest(tensors: dict[str, Tensor], text: str) -> str:
    total = hashlib.sha256(text.encode())
    for key in sorted(tensors):
        total.update(f"{key} {tensors[key].dtype} {tuple(tensors[key].shape)}".encode())
        total.update(tensors[key].reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=paths.PROJECT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
