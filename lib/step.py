"""Run a job of the workflow: `python -m lib.step NAME LOG COMMAND...`, its output to LOG, its news to stdout."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from lib import paths

ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",  # its products are small here: a second thread would cost more than it does
    "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads sleep: spinning teams slow each other down many times
    "CURATED_LOOPS_HEADLESS": "1",  # a widget gives its picture (lib.controls)
    "PYTHONUNBUFFERED": "1",  # a log says how far its job is
}
# A kernel's ports are looked up about a second before it binds them: of kernels started together, one may find a
# port taken (1 of 160 starts, two at a time, on 2 cores). No cell has run then.
KERNEL_DIED = "Kernel died before replying to kernel_info"
KERNEL_STARTS = 3
NEWS = re.compile(r"(?P<name>\S+): (started|(FAILED: (?P<error>.*)|done) after (?P<seconds>\d+) s)\n?")


@dataclass(frozen=True)
class News:
    """What a job said.

    Attributes:
        name: of the job.
        seconds: that it took; None when it has just started.
        error: its last line of error, or None.
    """

    name: str
    seconds: float | None
    error: str | None


def read(line: str) -> News | None:
    """A line of news; None for any other line."""
    found = NEWS.fullmatch(line)
    if not found:
        return None
    return News(found["name"], found["seconds"] and float(found["seconds"]), found["error"])


def environment() -> dict[str, str]:
    """ENVIRONMENT, and this tree's `lib` before any that is installed: kernels start in notebooks/."""
    known = os.environ.get("PYTHONPATH")
    return ENVIRONMENT | {"PYTHONPATH": os.pathsep.join([str(paths.PROJECT), *([known] if known else [])])}


def run(name: str, log: Path, command: list[str]) -> int:
    """Run a command from the project's folder, again where its kernel died at the start; its exit code."""
    # Whoever reads this line is gone after a kill of run_all.sh: the job then ends here, on a broken pipe.
    _tell(f"{name}: started")
    began = time.time()
    for _ in range(KERNEL_STARTS):
        with open(log, "w") as file:
            code = subprocess.run(
                command, cwd=paths.PROJECT, env=os.environ | environment(), stdout=file, stderr=file
            ).returncode
        if code == 0 or KERNEL_DIED not in last_line(log):
            break
    how = f"FAILED: {_reason(log, code)} (whole log: {log})" if code else "done"
    _tell(f"{name}: {how} after {time.time() - began:.0f} s")
    return code


def _tell(news: str) -> None:
    """One write: where output is not buffered, `print` makes two, and jobs share the pipe."""
    sys.stdout.write(f"{news}\n")
    sys.stdout.flush()


def _reason(log: Path, code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return last_line(log)


def last_line(log: Path) -> str:
    """The last line of a log that says anything."""
    lines = [line.strip() for line in log.read_text().splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def main() -> int:
    """The command line."""
    name, log, *command = sys.argv[1:]
    try:
        return run(name, Path(log), command)
    except (KeyboardInterrupt, BrokenPipeError):
        return 130


if __name__ == "__main__":
    sys.exit(main())
