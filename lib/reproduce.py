"""The command line behind run_all.sh."""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import papermill
import yaml

from lib import paths, profiles, report, verify
from lib.checks import BadInput, require

BUILD = paths.PROJECT / "build"
NOTIFICATION = "@jupyterlab/apputils-extension:notification"  # the JupyterLab plugin that asks about news
STATUS_EVERY = 15  # seconds between lines that say what is running


@dataclass(frozen=True)
class Outcome:
    """How one notebook ended: its last line of error, or None."""

    notebook: Path
    seconds: float
    error: str | None


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code (0 done, 1 something failed, 2 bad input)."""
    try:
        options = _parser().parse_args(arguments)
        return COMMANDS[options.command](options)
    except BadInput as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a full disk, no permission
        print(f"run_all.sh: {error}; nothing finished is lost, the same command goes on", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nrun_all.sh: stopped; the same command goes on where it was", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise BadInput(f"{message}; ./run_all.sh --help lists what there is")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="run_all.sh", add_help=False, allow_abbrev=False)
    parser.add_argument("command", nargs="?", default="reproduce", choices=list(COMMANDS))
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--only", default="")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--port", type=int, default=8888)
    parser.add_argument("--no-browser", action="store_true")
    parser.add_argument("-p", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    return parser


def _reproduce(options: argparse.Namespace) -> int:
    overrides = parse_settings(options.settings)
    profiles.load(options.profile, overrides)
    require(options.seed >= 0, "--seed", options.seed, ">= 0")
    require(options.jobs >= 1, "--jobs", options.jobs, ">= 1")
    parameters = {"profile": options.profile, "seed": options.seed, "overrides": overrides}
    chosen = select(options.only)
    for notebook in chosen:
        known = papermill.inspect_notebook(str(notebook))
        require(set(parameters) <= set(known), "parameters", sorted(known), f"declared in {notebook.name}")
    folder = BUILD / options.profile
    folder.mkdir(parents=True, exist_ok=True)

    def command(notebook: Path) -> list[str]:
        target = str(folder / notebook.name)
        quiet = ["--no-progress-bar", "--cwd", str(paths.NOTEBOOKS)]
        return ["papermill", str(notebook), target, "-y", yaml.safe_dump(parameters), *quiet]

    began = time.time()
    outcomes = _run_all(chosen, command, options.jobs, folder)
    print(f"\n{_summary(outcomes, paths.figures(options.profile), began)}")
    print(f"\nFigures, numbers and provenance: {paths.figures(options.profile)}\nExecuted notebooks: {folder}")
    return int(any(outcome.error for outcome in outcomes))


def _refresh(options: argparse.Namespace) -> int:
    def command(notebook: Path) -> list[str]:
        return ["jupytext", "--to", "ipynb", "--execute", str(notebook.with_suffix(".py"))]

    BUILD.mkdir(exist_ok=True)
    os.environ["TQDM_DISABLE"] = "1"  # a stored progress bar is noise to a reader
    chosen = select(options.only)
    outcomes = _run_all(chosen, command, options.jobs, BUILD)
    return int(any(outcome.error for outcome in outcomes))


def _verify(options: argparse.Namespace) -> int:
    found = verify.verify(paths.figures("").resolve())
    print(verify.report(found))
    return int(not all(verdict.agrees for verdict in found))


def _lab(options: argparse.Namespace) -> int:
    """JupyterLab in place of this process, so that Ctrl-C reaches it."""
    require(1024 <= options.port <= 65535, "--port", options.port, "in 1024..65535")
    first = select(options.only)[0]
    os.environ.pop("CURATED_LOOPS_HEADLESS", None)  # somebody is there to move a slider
    line = [
        f"--ServerApp.root_dir={paths.PROJECT}",
        f"--LabApp.default_url=/lab/tree/notebooks/{first.name}",
        "--ServerApp.ip=127.0.0.1",  # this machine only; the token is Jupyter's own, new each time
        f"--ServerApp.port={options.port}",  # the next free one if it is taken
        f"--ServerApp.open_browser={not options.no_browser}",
        "--ServerApp.answer_yes=True",  # Ctrl-C stops at once, without a question
    ]
    if os.geteuid() == 0:
        line.append("--allow-root")  # a container's usual user
    print("JupyterLab opens in the browser; without one, open the address below. Ctrl-C stops it.", flush=True)
    # Defaults, which a reader's own settings override: no question about news, no look for updates.
    defaults = BUILD / "lab" / "labconfig" / "default_setting_overrides.json"
    defaults.parent.mkdir(parents=True, exist_ok=True)
    defaults.write_text(json.dumps({NOTIFICATION: {"fetchNews": "false", "checkForUpdates": False}}))
    known = os.environ.get("JUPYTER_CONFIG_PATH")
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join([str(defaults.parent.parent), *([known] if known else [])])
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # the kernel of this environment, not one of the user's
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", *line])


def _report(options: argparse.Namespace) -> int:
    profiles.load(options.profile)
    folder = BUILD / "report"
    front = report.build(select(options.only), paths.figures(options.profile), folder)
    print(f"Report: {front}\nThe same as one page: {folder / 'whole.html'}")
    pdf = folder / "curated-loops.pdf"
    if report.print_pdf(folder / "whole.html", pdf):
        print(f"The same on paper: {pdf}")
    else:
        print(f"No PDF: it is printed by one of {', '.join(report.BROWSERS)}, and none is installed.")
    return 0


def _test(options: argparse.Namespace) -> int:
    python = [sys.executable, "-m"]
    workers = ["-n", str(max(1, options.jobs)), "--dist", "loadfile"]
    steps = [
        [*python, "ruff", "check"],
        [*python, "ruff", "format", "--check"],
        [*python, "pytest", *workers],
        [*python, "pytest", "--nbval-lax", "notebooks", "--durations=10", *workers],
    ]
    with tempfile.TemporaryDirectory() as scratch:
        # Away from runs/ and paper_figs/: a test must neither reuse nor change what is there.
        places = {"CURATED_LOOPS_RUNS": f"{scratch}/runs", "CURATED_LOOPS_FIGURES": f"{scratch}/figures"}
        environment = _environment(options.jobs) | places | {"TQDM_DISABLE": "1"}
        failed = [s for s in steps if subprocess.run(s, cwd=paths.PROJECT, env=environment).returncode]
    for step in failed:
        print(f"run_all.sh: failed: {' '.join(step[2:])}", file=sys.stderr)
    return int(bool(failed))


def parse_settings(settings: list[str]) -> dict[str, object]:
    """["toy.rounds=5"] -> {"toy.rounds": 5}; values are read as YAML scalars."""
    pairs = {}
    for setting in settings:
        key, separator, value = setting.partition("=")
        require(bool(separator and key), "-p", setting, "KEY=VALUE")
        try:
            pairs[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise BadInput(f"-p = {setting!r}: the value must be a plain YAML scalar") from None
    return pairs


def select(only: str) -> list[Path]:
    """The notebooks named by "02,03" or by (the start of) their names; all for ""."""
    there = sorted(path.with_suffix(".ipynb") for path in paths.NOTEBOOKS.glob("*.py"))
    if not only:
        return there
    chosen = []
    for name in only.split(","):
        found = [path for path in there if name and path.stem.startswith(name)]
        require(bool(found), "--only", name, f"the start of one of {', '.join(path.stem for path in there)}")
        chosen += [path for path in found if path not in chosen]
    return chosen


def _run_all(notebooks: list[Path], command, jobs: int, folder: Path) -> list[Outcome]:
    """Run a command for each notebook, `jobs` at a time, saying now and then what is running."""
    environment = _environment(min(jobs, len(notebooks)))
    started: dict[Path, float] = {}

    def run(notebook: Path) -> Outcome:
        started[notebook] = time.time()
        print(f"{notebook.stem}: started", flush=True)
        log = folder / f"{notebook.stem}.log"
        with open(log, "w") as file:
            line = [sys.executable, "-m", *command(notebook)]
            code = subprocess.run(line, cwd=paths.PROJECT, env=environment, stdout=file, stderr=file).returncode
        seconds = time.time() - started.pop(notebook)
        error = f"{_last_line(log)} (whole log: {log})" if code else None
        print(f"{notebook.stem}: {f'FAILED: {error}' if error else 'done'} after {seconds:.0f} s", flush=True)
        return Outcome(notebook, seconds, error)

    with ThreadPoolExecutor(min(jobs, len(notebooks))) as pool:
        futures = [pool.submit(run, notebook) for notebook in notebooks]
        told = time.time()
        while not all(future.done() for future in futures):
            time.sleep(0.2)
            if time.time() - told > STATUS_EVERY:
                told = time.time()
                running = [f"{path.stem} ({told - since:.0f} s)" for path, since in dict(started).items()]
                print(f"  running: {', '.join(running)}", flush=True)
        return [future.result() for future in futures]


def _environment(jobs: int) -> dict[str, str]:
    """Threads shared out among jobs; waiting threads sleep (spinning teams slow each other down many times)."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    return os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "CURATED_LOOPS_HEADLESS": "1",  # a widget gives its picture (lib.controls)
    }


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text().splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def _summary(outcomes: list[Outcome], figures: Path, began: float) -> str:
    lines = [f"{'notebook':<24}{'seconds':>8}{'figures':>9}{'claims held':>13}{'not held':>10}"]
    for outcome in outcomes:
        name = outcome.notebook.stem
        made = [p for p in figures.glob(f"{name[:2]}_*.png") if p.stat().st_mtime >= began]
        held, missed = ("-", "-") if outcome.error else _count_claims(figures / f"{name}_claims.csv")
        lines.append(f"{name:<24}{outcome.seconds:>8.0f}{len(made):>9}{held:>13}{missed:>10}")
    return "\n".join(lines)


def _count_claims(path: Path) -> tuple[int, int]:
    with open(path, newline="") as file:
        verdicts = [row["ours"] for row in csv.DictReader(file)]
    held = verdicts.count("holds")
    return held, len(verdicts) - held


COMMANDS = {
    "reproduce": _reproduce,
    "lab": _lab,
    "report": _report,
    "test": _test,
    "refresh": _refresh,
    "verify": _verify,
}

if __name__ == "__main__":
    sys.exit(main())
