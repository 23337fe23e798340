"""Where a run lives on disk: atomic, self-checking, resumable; and where a result came from.

A run folder holds `settings.json` and one file a round, each checked when it is read: one that is damaged is
named, set aside and made again (`lib.sealed`).
"""

import fcntl
import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from lib import distributed, paths, sealed
from lib.checks import require

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
    """One run folder. Of several processes (`lib.distributed`) the first one locks, reads and writes.

    Args:
        folder: made when missing.
        settings: JSON-able; everything that tells this run from another.
    """

    def __init__(self, folder: Path, settings: dict):
        self.folder, self.settings = Path(folder), settings
        if distributed.is_first():
            self.folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One process at a time in this folder; the next one says that it waits, and then finds the work done.

        Raises:
            BadInput: the folder holds a run with other settings.
        """
        if not distributed.is_first():
            yield
            return
        with open(self.folder / "lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"{self.folder}: another process works here; waiting for it", file=sys.stderr, flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
            self._claim()
            yield

    def save(self, name: str, tensors: dict[str, Tensor], info: dict) -> None:
        """Write tensors and JSON-able info as one file, whole or not at all."""
        if distributed.is_first():
            sealed.write(self._path(name), tensors, info)

    def load(self, name: str) -> tuple[dict[str, Tensor], dict] | None:
        """What `save` wrote; None where there is nothing, or nothing that can be trusted."""
        return distributed.on_first(lambda: sealed.read(self._path(name)))

    def _claim(self) -> None:
        """Write settings.json, or see that it is this run's."""
        path, own = self.folder / "settings.json", json.loads(json.dumps(self.settings))
        there = settings_in(self.folder)
        if there is not None:
            others = sorted(key for key in there | own if there.get(key) != own.get(key))
            allowed = f"empty or this run's: it holds one with another {', '.join(others)}"
            require(not others, "run_dir", str(self.folder), allowed)
            return
        if path.exists():
            sealed.set_aside(path, "its checksum does not match its contents")
        text = json.dumps({"settings": own, "sha256": digest(own)}, indent=1, sort_keys=True)
        sealed.write_text(path, text + "\n")

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


def settings_in(folder: Path) -> dict | None:
    """The settings of the run in a folder; None where there are none, or none that can be trusted."""
    try:
        found = json.loads((folder / "settings.json").read_text())
        return found["settings"] if found["sha256"] == digest(found["settings"]) else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def folder(name: str, settings: dict) -> Path:
    """The folder of a run: its name, a digest of its settings, and one of the code that computes it."""
    return paths.runs() / f"{name}-{digest(settings)[:8]}-{code_digest()[:8]}"


def digest(settings: dict) -> str:
    """SHA-256 of JSON-able settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


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
        "processes": distributed.processes(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=paths.PROJECT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
