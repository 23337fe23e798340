"""Start Snakemake on workflow/Snakefile, pass on the news of its jobs, and stop all of it when asked to."""

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import TextIO

from lib import paths, plan, step

SNAKEFILE = paths.PROJECT / "workflow" / "Snakefile"
STATUS_EVERY = 15  # seconds between lines that say what is running
PATIENCE = 5  # seconds for jobs to end when they are asked to


class WorkflowError(RuntimeError):
    """Snakemake itself failed. The message is one line."""


def run(config: dict, jobs: int, *, gpu: bool = False) -> dict[str, step.News]:
    """Do the jobs of a configuration and what they need.

    Args:
        config: of the Snakefile; its `build` is a folder, which is made, and `threads` a job's.
        jobs: at a time.
        gpu: whether jobs that want a GPU find one here, and so run one after the other.

    Returns:
        The last news of every job that ended, by its name. A job whose needs failed is not among them.

    Raises:
        WorkflowError: Snakemake failed, and not because a job did.
    """
    folder = Path(config["build"])
    folder.mkdir(parents=True, exist_ok=True)
    written, log = folder / "workflow.json", folder / "workflow.log"
    written.write_text(json.dumps(config, indent=1) + "\n")
    line = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), "--configfile", str(written)]
    line += ["--cores", str(config["threads"] * jobs), "--forceall", "--keep-going", "--scheduler", "greedy"]
    line += ["--resources", "gpu=1"] if gpu else []
    # The long ones begin first, so that none of them is left over for one core at the end.
    first = [f"done/{name}" for name in config.get("notebooks", []) if name[:2] in plan.LONG]
    line += ["--prioritize", *first] if first else []
    # Another command may work beside this one, or the last jobs of a killed one, whose Snakemake then takes back
    # what they had marked as done: each has a folder for its marks, and run folders have their own locks.
    with tempfile.TemporaryDirectory(prefix="curated-loops-") as marks:
        with open(log, "w") as file:
            # A session of its own: its processes are stopped together, whoever they were started by.
            pipes = {"stdout": subprocess.PIPE, "stderr": file, "text": True}
            line += ["--directory", marks]
            child = subprocess.Popen(line, cwd=paths.PROJECT, start_new_session=True, **pipes)
        try:
            ended = _relay(child)
        except BaseException:
            _stop(child)
            raise
        failed = child.wait()
    if failed and not any(news.error for news in ended.values()):
        raise WorkflowError(f"{step.last_line(log)} (whole log: {log})")
    return ended


def _relay(child: subprocess.Popen) -> dict[str, step.News]:
    """Print news as they come, and now and then what is running; returns the last of each job that ended."""
    lines: queue.Queue[str | None] = queue.Queue()
    Thread(target=_read, args=(child.stdout, lines), daemon=True).start()
    started, ended, told = {}, {}, time.time()
    while True:
        with suppress(queue.Empty):
            line = lines.get(timeout=1)
            if line is None:
                return ended
            news = step.read(line)
            if news:
                print(line, end="", flush=True)
                if news.seconds is None:
                    started[news.name] = time.time()
                else:
                    started.pop(news.name, None)
                    ended[news.name] = news
        if started and time.time() - told > STATUS_EVERY:
            told = time.time()
            running = [f"{name} ({told - since:.0f} s)" for name, since in started.items()]
            print(f"  running: {', '.join(running)}", flush=True)


def _read(stream: TextIO, lines: queue.Queue) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _stop(child: subprocess.Popen) -> None:
    for sent in (signal.SIGINT, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, sent)
        with suppress(subprocess.TimeoutExpired):
            child.wait(PATIENCE)
