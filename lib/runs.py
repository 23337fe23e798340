"""Where a run lives on disk: atomic, self-checking, resumable; and where a result came from.

A run folder holds `settings.json` and one file a round. A file is written under another name, flushed and
renamed, and carries a SHA-256 of its contents: one that does not match is named, set aside and made again.
"""

import fcntl
import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
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
    "jobs.py",
    "parametric.py",
    "plan.py",
    "pretrain.py",
    "products.py",
    "report.py",
    "reproduce.py",
    "stage.py",
    "statements.py",
    "step.py",
    "taste.py",
    "verify.py",
    "workflow.py",
}
PACKAGES = (
    "torch", "torchvision", "numpy", "scipy", "scikit-learn", "diffusers", "safetensors", "clean-fid",
    "torch-fidelity", "pandas", "matplotlib",
)  # fmt: skip
_stale: set[str] = set()  # run folders of other code that this process has read


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


def find(name: str, settings: dict, parts: list[str]) -> Store:
    """The store of a run, finished or not.

    With $CURATED_LOOPS_REUSE_STALE, a run that this code has not finished is read from the newest finished one
    of equal settings, whatever code computed it: a warning says so, and `stale` names it from then on.

    Args:
        name: of the run.
        settings: of the run.
        parts: names of everything a finished run has saved.
    """
    own = folder(name, settings)
    if os.environ.get(paths.REUSE_STALE):
        for path in (_folder(name, settings, code_digest()), own):
            if _holds(path, parts):
                return Store(path, settings)
        for other in _others(own, settings, parts):
            store = Store(other, settings)
            if all(store.load(part) is not None for part in parts):
                warnings.warn(f"{other.name}: computed by other code than this tree's, reused", stacklevel=3)
                _stale.add(other.name)
                return store
    return Store(own, settings)


def stale() -> list[str]:
    """Folders of runs and weights by other code that this process has read: what it computes rests on them."""
    return sorted(_stale)


def folder(name: str, settings: dict) -> Path:
    """The folder of a run: its name, a digest of its settings, and one of the code that computes it.

    What rests on stale results has a folder of its own, so that it never passes for a result of this code alone.
    """
    code = code_digest()
    if _stale:
        code = hashlib.sha256("".join([code, *stale()]).encode()).hexdigest()
    return _folder(name, settings, code)


def _folder(name: str, settings: dict, code: str) -> Path:
    return paths.runs() / f"{name}-{digest(settings)[:8]}-{code[:8]}"


def _holds(folder: Path, parts: list[str]) -> bool:
    return all((folder / f"{part}.safetensors").exists() for part in parts)


def _others(own: Path, settings: dict, parts: list[str]) -> list[Path]:
    """Finished folders of equal name and settings, the newest first."""
    pattern = f"{own.name.rpartition('-')[0]}-*"
    there = [path for path in own.parent.glob(pattern) if path != own and _holds(path, parts)]
    equal = [p for p in there if json.loads((p / "settings.json").read_text()) == json.loads(json.dumps(settings))]
    return sorted(equal, key=lambda path: (path / f"{parts[-1]}.safetensors").stat().st_mtime, reverse=True)


def digest(settings: dict) -> str:
    """SHA-256 of JSON-able settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tensors_sha256(*tensors: Tensor) -> str:
    """SHA-256 of what tensors hold, with their types and shapes."""
    return _content_digest({f"{i:06d}": value.detach().cpu().contiguous() for i, value in enumerate(tensors)}, "")


def code_digest() -> str:
    """SHA-256 of the files of lib/ that decide what a run computes."""
    total = hashlib.sha256()
    root = paths.PROJECT / "lib"
    for path in sorted(root.rglob("*.py")):
        if path.name not in READERS:
            total.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return total.hexdigest()


def provenance(generator: object = None, *, seconds: float | None = None) -> dict:
    """Commit, code, machine, versions, time and memory behind a result computed now.

    Args:
        generator: the model behind it, whose device and precision are told; without one, those of the process.
        seconds: that it took, up to now; None where whoever asks tells the time itself.
    """
    time = {}
    if seconds is not None:
        started = datetime.now(UTC) - timedelta(seconds=seconds)
        time = {"started": started.isoformat(timespec="seconds"), "seconds": round(seconds, 3)}
    return {
        "commit": _git("rev-parse", "HEAD") or "not a git checkout",
        "clean_tree": _git("status", "--porcelain", "--untracked-files=no") == "",
        "code_sha256": code_digest(),
        "stale": stale(),
        "processor": platform.processor() or platform.machine(),
        **_hardware(generator),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        **time,
        "peak_memory_mib": peak_memory_mib(),
    }


def peak_memory_mib() -> int:
    """The largest memory that this process has held so far, in MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10  # getrusage counts bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit


def _hardware(generator: object) -> dict:
    """Device, types of numbers, and what of the device's memory was used at most."""
    cuda = torch.cuda.is_available() if generator is None else str(getattr(generator, "device", "cpu")) != "cpu"
    found = {
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "dtype": str(torch.get_default_dtype()).removeprefix("torch."),
    }
    if hasattr(generator, "precision"):
        found["precision"] = generator.precision  # of matrix products and convolutions
    if cuda:
        found["peak_device_memory_mib"] = torch.cuda.max_memory_allocated() // 2**20
    return found


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
