"""Fair timing: contenders take turns, so that a slow minute of the machine hits all of them."""

import json
import os
import re
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import psutil
import torch

from lib import paths, runs, sealed

RESULTS = paths.PROJECT / "benchmarks" / "results"  # a folder a machine
BF16_UNITS = ("amx_bf16", "avx512_bf16")  # of CPUs, the fastest first


def alternate(contenders: dict[str, Callable[[], object]], repeats: int = 5) -> pd.DataFrame:
    """Time each contender `repeats` times, in turns, in an order that shifts by one each turn.

    Args:
        contenders: name -> what is timed; each runs once untimed before.
        repeats: timed runs of each, >= 1.

    Returns:
        One row a contender: median, least and greatest seconds.
    """
    for work in contenders.values():
        work()
    names, seconds = list(contenders), {name: [] for name in contenders}
    for turn in range(repeats):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            seconds[name].append(once(contenders[name]))
    rows = [
        {
            "contender": name,
            "seconds": statistics.median(s),
            "least": min(s),
            "greatest": max(s),
            "repeats": repeats,
        }
        for name, s in seconds.items()
    ]
    return pd.DataFrame(rows)


def once(work: Callable[[], object]) -> float:
    """Seconds of one run, with everything a GPU was asked to do finished."""
    _synchronise()
    started = time.perf_counter()
    work()
    _synchronise()
    return time.perf_counter() - started


def machine(device: str) -> str:
    """A folder's name for what is measured: the GPU, or the CPU and its fastest bf16 unit."""
    if device == "cuda":
        name = torch.cuda.get_device_name()
    else:
        able = torch.cpu.get_capabilities()
        name = " ".join([runs.processor(), *[unit for unit in BF16_UNITS if able.get(unit)][:1]])
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def save(name: str, table: pd.DataFrame, results: Path, device: str) -> None:
    """Print a table, and keep it in the machine's folder as CSV with its provenance beside it."""
    folder = results / machine(device)
    folder.mkdir(parents=True, exist_ok=True)
    print(f"\n{name}\n{table.to_string(index=False, float_format=lambda value: f'{value:.4g}')}", flush=True)
    table.to_csv(folder / f"{name}.csv", index=False, float_format="%.5g")
    able = torch.cpu.get_capabilities()
    units = {unit: able.get(unit, False) for unit in BF16_UNITS}
    cpu = {"name": runs.processor(), "cores": os.cpu_count(), **units}
    about = {"date": datetime.now(UTC).date().isoformat(), "cpu": cpu, **runs.provenance()}
    if device == "cpu":
        about["device"] = device  # whatever else there is
    sealed.write_text(folder / f"{name}.json", json.dumps(about, indent=1) + "\n")


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


# A process counts as its own the memory of the one it was started from, as large as that was: so a small one
# stands between, and tells what its children took.
LAUNCHER = """
import pathlib, resource, subprocess, sys
status = subprocess.call(sys.argv[2:])
unit = 2**20 if sys.platform == "darwin" else 2**10  # as in lib.runs
pathlib.Path(sys.argv[1]).write_text(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit))
sys.exit(status)
"""
LOOK = 0.5  # seconds between two looks at what all processes of a command hold together


def process(line: list[str], scratch: Path) -> dict[str, float]:
    """Seconds and peak memory of a command that must succeed.

    Args:
        line: the command.
        scratch: takes the place of runs/ and paper_figs/, so that nothing is reused.

    Returns:
        "seconds"; "peak MiB", resident, of the largest process; "together MiB", the most that it and all it
        started were seen to hold at one time, what they share counted once (on macOS: not counted).
    """
    places = {"CURATED_LOOPS_RUNS": str(scratch / "runs"), "CURATED_LOOPS_FIGURES": str(scratch / "figures")}
    quiet = {
        "TQDM_DISABLE": "1",
        "CURATED_LOOPS_HEADLESS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": "1",
    }
    launch, environment = [sys.executable, "-c", LAUNCHER, str(scratch / "peak")], os.environ | places | quiet
    started, together = time.perf_counter(), 0
    with open(scratch / "log", "w") as log:
        child = psutil.Popen([*launch, *line], cwd=paths.PROJECT, env=environment, stdout=log, stderr=log)
        while (status := _wait(child)) is None:
            together = max(together, sum(map(_held, _family(child))))
    seconds = time.perf_counter() - started
    if status:
        raise RuntimeError(f"{' '.join(line)} failed: {(scratch / 'log').read_text()[-500:]}")
    peak = float((scratch / "peak").read_text())
    return {"seconds": seconds, "peak MiB": peak, "together MiB": together / 2**20}


def _wait(child: psutil.Popen) -> int | None:
    """The exit status; None if it has not ended until it is time to look again."""
    try:
        return child.wait(LOOK)
    except psutil.TimeoutExpired:
        return None


def _family(child: psutil.Popen) -> list[psutil.Process]:
    try:
        return [child, *child.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _held(one: psutil.Process) -> int:
    """Bytes; 0 for a process that has ended meanwhile."""
    try:
        memory = one.memory_full_info()
    except psutil.Error:
        return 0
    return getattr(memory, "pss", memory.uss)
