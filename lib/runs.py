"""Where a run lives on disk: atomic, self-checking, resumable; and where a result came from.

A run folder holds `settings.json` and one file a round, each checked when it is read: one that is damaged is
named, set aside and made again (`lib.sealed`).
"""

import fcntl
import functools
import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from lib import distributed, paths, sealed
from lib.checks import BadInput, require

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
    "recorded.py",
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
# A refresh rewrites these one by one: that one of them differs from the commit says nothing of what it computed.
OUTPUTS = (":!paper_figs", ":!notebooks/*.ipynb", ":!benchmarks/results")
ON_THE_SPOT = {  # readers that compute figures or verdicts by themselves
    "claims.py", "explorer.py", "image_claims.py", "parametric.py", "recorded.py", "statements.py", "taste.py",
}  # fmt: skip
DIFFERING = (
    "commit", "clean_tree", "code_sha256", "processor", "device", "dtype", "precision", "processes", "threads",
    "python", "packages",
)  # fmt: skip
_stale: set[str] = set()  # run folders of other code that this process has read


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

        $TQDM_DISABLE silences it, as it does progress bars.

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
                if not os.environ.get("TQDM_DISABLE"):
                    said = f"{self.folder}: another process works here; waiting for it"
                    print(said, file=sys.stderr, flush=True)
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
    require_unchanged()
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
    equal = [path for path in there if settings_in(path) == json.loads(json.dumps(settings))]
    return sorted(equal, key=lambda path: (path / f"{parts[-1]}.safetensors").stat().st_mtime, reverse=True)


def digest(settings: dict) -> str:
    """SHA-256 of JSON-able settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def tensors_sha256(*tensors: Tensor) -> str:
    """SHA-256 of what tensors hold, with their types and shapes."""
    return sealed.content_digest(
        {f"{i:06d}": value.detach().cpu().contiguous() for i, value in enumerate(tensors)}, ""
    )


def code_digest() -> str:
    """SHA-256 of the files of lib/ that decide what a run computes, as this process imported them."""
    return IMPORTED["code_sha256"]


def require_unchanged() -> None:
    """Raise `BadInput` where lib/ was edited since this process imported it: nobody knows what would compute."""
    if code_on_disk() != IMPORTED["code_sha256"]:
        raise BadInput(
            "lib/ has changed since this process began: start it again (a notebook: restart the kernel)"
        )


def spot_digest() -> str:
    """The same for a result that is computed on the spot, or a verdict: ON_THE_SPOT has a part in it."""
    return IMPORTED_ON_THE_SPOT


def code_on_disk(also: Collection[str] = ()) -> str:
    """The same of the files as they are now; with those named in `also`."""
    total = hashlib.sha256()
    root = paths.PROJECT / "lib"
    for path in sorted(root.rglob("*.py")):
        part = path.relative_to(root)
        hidden = any(name.startswith(".") for name in part.parts)  # what editors leave
        if not hidden and (path.name not in READERS or path.name in also):
            total.update(str(part).encode() + path.read_bytes())
    return total.hexdigest()


def tree() -> dict:
    """Commit and code of the tree as it is now; of no git checkout that merely lies around it."""
    top = _git("rev-parse", "--show-toplevel")
    own = top is not None and Path(top).resolve() == paths.PROJECT.resolve()
    return {
        "commit": (own and _git("rev-parse", "HEAD")) or "not a git checkout",
        "clean_tree": own and _git("status", "--porcelain", "--untracked-files=no", "--", ".", *OUTPUTS) == "",
        "code_sha256": code_on_disk(),
    }


def provenance(generator: object = None, *, seconds: float | None = None) -> dict:
    """Commit, code, machine, versions, time and memory behind a result computed now.

    `clean_tree` says whether all tracked files but stored results are those of the commit.

    Args:
        generator: the model behind it, whose device and precision are told; without one, those of the process.
        seconds: that it took, up to now; None where whoever asks tells the time itself.
    """
    time = {}
    if seconds is not None:
        started = datetime.now(UTC) - timedelta(seconds=seconds)
        time = {"started": started.isoformat(timespec="seconds"), "seconds": round(seconds, 3)}
    return {
        **IMPORTED,
        "stale": stale(),
        "processor": processor(),
        **_hardware(generator),
        "processes": distributed.processes(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "packages": dict(_packages()),
        **time,
        "peak_memory_mib": peak_memory_mib(),
    }


def merged(origins: list[dict]) -> dict:
    """One provenance for parts computed at several times: the last one's, with the time and memory of all.

    Where another part ran on another machine or by other code, `also` holds what differed there.
    """
    last = origins[-1]
    parts = [o | part for o in origins for part in ({}, *o.get("also", []))]
    other = [{key: o.get(key) for key in DIFFERING if o.get(key) != last.get(key)} for o in parts]
    also = [part for i, part in enumerate(other) if part and part not in other[:i]]
    return (
        last
        | {
            "stale": sorted({name for o in origins for name in o.get("stale", [])}),
            "started": min((o["started"] for o in origins if o.get("started")), default=None),
            "seconds": round(sum(o["seconds"] for o in origins), 1),
            "peak_memory_mib": max(o.get("peak_memory_mib", 0) for o in origins),
        }
        | ({"also": also} if also else {})
    )


@functools.cache
def _packages() -> dict[str, str]:
    return {name: metadata.version(name) for name in PACKAGES}


def processor() -> str:
    """The CPU's name, as far as it tells it."""
    return torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine()


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
    if getattr(generator, "evaluations", None):
        found["network_evaluations"] = generator.evaluations  # a sample
    if cuda:
        found["peak_device_memory_mib"] = torch.cuda.max_memory_allocated() // 2**20
    return found


def _git(*arguments: str) -> str | None:
    try:
        line = ["git", "--no-optional-locks", *arguments]  # status would write to the index
        done = subprocess.run(line, cwd=paths.PROJECT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


# What is edited or committed while this process lives is not what it runs.
IMPORTED, IMPORTED_ON_THE_SPOT = tree(), code_on_disk(ON_THE_SPOT)
