"""The command line behind run_all.sh."""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import papermill
import yaml

from lib import paths, plan, profiles, step, workflow
from lib.checks import BadInput, require

BUILD = paths.PROJECT / "build"
NOTIFICATION = "@jupyterlab/apputils-extension:notification"  # the JupyterLab plugin that asks about news


@dataclass(frozen=True)
class Outcome:
    """How one notebook ended: its last line of error, or None."""

    notebook: Path
    seconds: float
    error: str | None


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code (0 done, 1 something failed, 2 bad input)."""
    try:
        options = _options(arguments)
        return COMMANDS[options.command](options)
    except BadInput as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 2
    except workflow.WorkflowError as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 1
    except subprocess.SubprocessError as error:  # Chromium's
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a full disk, no permission
        print(f"run_all.sh: {error}; nothing finished is lost, the same command goes on", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nrun_all.sh: stopped; the same command goes on where it was", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise BadInput(f"{message}; ./run_all.sh --help lists what there is")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    """The command and its options; one that it does not read is refused, not ignored."""
    given = vars(_parser().parse_args(arguments))
    command = given["command"]
    for name, value in given.items():
        flag = "-p" if name == "settings" else f"--{name.replace('_', '-')}"
        require(name in ("command", *READS[command]), flag, value, f"left out: {command} does not read it")
    options = argparse.Namespace(**DEFAULTS | given)
    require(options.jobs >= 1, "--jobs", options.jobs, ">= 1")
    return options


def _parser() -> argparse.ArgumentParser:
    """Gives what stands on the command line alone: DEFAULTS are filled in later."""
    parser = _Parser(prog="run_all.sh", add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("command", nargs="?", default="reproduce", choices=list(COMMANDS))
    parser.add_argument("--profile")
    parser.add_argument("--only")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--reuse-stale", action="store_true")
    parser.add_argument("--port", type=int)
    parser.add_argument("--no-browser", action="store_true")
    parser.add_argument("-p", dest="settings", action="append", metavar="KEY=VALUE")
    return parser


def _reproduce(options: argparse.Namespace) -> int:
    overrides = parse_settings(options.settings)
    resolved = profiles.load(options.profile, overrides)
    require(options.seed >= 0, "--seed", options.seed, ">= 0")
    parameters = {"profile": options.profile, "seed": options.seed, "overrides": overrides}
    chosen = select(options.only)
    for notebook in chosen:
        known = papermill.inspect_notebook(str(notebook))
        require(set(parameters) <= set(known), "parameters", sorted(known), f"declared in {notebook.name}")
    if resolved.images.data == "cifar10" and _need_images(chosen, resolved):
        from lib import datasets  # imports torch

        datasets.cifar10(train=False)  # jobs that begin together would all download it, into one folder
    folder = BUILD / options.profile
    if options.reuse_stale:
        os.environ[paths.REUSE_STALE] = "1"
    began = time.time()
    separate = resolved.workflow.separate_runs
    outcomes, report = _execute(chosen, folder, options.jobs, separate_runs=separate, **parameters)
    print(f"\n{_summary(outcomes, paths.figures(options.profile), began)}")
    print(f"\nFigures, numbers and provenance: {paths.figures(options.profile)}\nExecuted notebooks: {folder}")
    if report and not report.error:
        print(f"Report: {folder / 'report' / 'index.html'}")
        return 0
    return 1


def _refresh(options: argparse.Namespace) -> int:
    os.environ["TQDM_DISABLE"] = "1"  # a stored progress bar is noise to a reader
    outcomes, _ = _execute(select(options.only), BUILD, options.jobs, refresh=True)
    return int(any(outcome.error for outcome in outcomes))


def _setup(options: argparse.Namespace) -> int:
    """run_all.sh has done it by now."""
    return 0


def _verify(options: argparse.Namespace) -> int:
    from lib import verify

    root = paths.figures("").resolve()
    found = verify.verify(root)
    print(verify.report(found) if found else f"{root}: holds no figures and no tables")
    return int(not found or not all(verdict.agrees for verdict in found))


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
    from lib import report

    profiles.load(options.profile)
    with_tables = sorted({table.parent.name for table in paths.figures("").glob("*/*_claims.csv")})
    allowed = f"one with tables of claims in {paths.figures('')}: {', '.join(with_tables) or 'there are none'}"
    require(options.profile in with_tables, "--profile", options.profile, allowed)
    folder = BUILD / "report"
    front = report.build(select(options.only), paths.figures(options.profile), folder)
    print(f"Report: {front}\nThe same as one page: {folder / 'whole.html'}")
    pdf = folder / "curated-loops.pdf"
    if report.print_pdf(folder / "whole.html", pdf):
        print(f"The same on paper: {pdf}")
    else:
        print(f"No PDF: it is printed by one of {', '.join(report.BROWSERS)}, and none is installed.")
    return 0


def _bench(options: argparse.Namespace) -> int:
    line = [sys.executable, "-m", "benchmarks", *(["--only", options.only] if options.only else [])]
    return subprocess.run(line, cwd=paths.PROJECT, env=os.environ | {"TQDM_DISABLE": "1"}).returncode


def _test(options: argparse.Namespace) -> int:
    python = [sys.executable, "-m"]
    # In the order of conftest.LONGEST: left to itself, pytest-xdist begins with the files of most tests.
    workers = ["-n", str(max(1, options.jobs)), "--dist", "loadfile", "--no-loadscope-reorder"]
    steps = [
        [*python, "ruff", "check"],
        [*python, "ruff", "format", "--check"],
        [*python, "pytest", "--durations=10", *workers],
        [*python, "pytest", "--nbval-lax", "notebooks", "--durations=10", *workers],
    ]
    with tempfile.TemporaryDirectory() as scratch:
        threads = {"OMP_NUM_THREADS": str(_threads(options.jobs))}
        # Away from runs/ and paper_figs/: a test must neither reuse nor change what is there.
        places = {"CURATED_LOOPS_RUNS": f"{scratch}/runs", "CURATED_LOOPS_FIGURES": f"{scratch}/figures"}
        environment = os.environ | step.environment() | threads | places | {"TQDM_DISABLE": "1"}
        failed = [s for s in steps if subprocess.run(s, cwd=paths.PROJECT, env=environment).returncode]
    for broken in failed:
        print(f"run_all.sh: failed: {' '.join(broken[2:])}", file=sys.stderr)
    return int(bool(failed))


def parse_settings(settings: list[str]) -> dict[str, object]:
    """["toy.rounds=5"] -> {"toy.rounds": 5}; values are read as YAML, nothing as ""."""
    pairs, usual = {}, profiles.flatten(profiles.load("quick").model_dump(mode="json"))
    for setting in settings:
        key, separator, value = setting.partition("=")
        require(bool(separator and key), "-p", setting, "KEY=VALUE")
        require(key not in pairs, "-p", setting, f"the only one for {key}")
        try:
            pairs[key] = yaml.safe_load(value) if value else ""  # no setting is YAML's null
        except yaml.YAMLError:
            raise BadInput(f"-p = {setting!r}: the value must be a YAML value") from None
        _require_number(key, pairs[key], usual.get(key))
    return pairs


def _require_number(key: str, value: object, usual: object) -> None:
    """Refuse yes and no, which Python takes for 1 and 0, where profile quick has a number or a list of them."""
    numeric = isinstance(usual, int | float | list) and not isinstance(usual, bool)
    truths = [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, bool)]
    allowed = "a list of numbers" if isinstance(usual, list) else "a number"
    require(not (numeric and truths), key, value, allowed)


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


def _need_images(notebooks: list[Path], profile: profiles.Profile) -> bool:
    planned = plan.plans([notebook.stem for notebook in notebooks], profile, 0).values()
    return any(job.rule == "image_p0" for jobs in planned for job in jobs)


def _execute(
    notebooks: list[Path], folder: Path, jobs: int, *, separate_runs: bool = False, **config
) -> tuple[list[Outcome], step.News | None]:
    """Run notebooks, and what they need before, through the workflow; what became of each, and of their report."""
    names = [notebook.stem for notebook in notebooks]
    jobs = jobs if separate_runs else min(jobs, len(names))
    config |= {"notebooks": names, "threads": _threads(jobs), "build": str(folder)}
    ended = workflow.run(config, jobs, gpu=separate_runs and _gpu_is_there())
    lost = step.News("", 0.0, "not started, since a job that it needs failed")
    found = [ended.get(name, lost) for name in names]
    outcomes = [Outcome(n, news.seconds, news.error) for n, news in zip(notebooks, found, strict=True)]
    return outcomes, ended.get("report")


def _gpu_is_there() -> bool:
    import torch  # takes seconds, and most commands need none of it

    return torch.cuda.is_available()


def _threads(jobs: int) -> int:
    """Threads of one of the jobs that share this machine."""
    return max(1, (os.cpu_count() or 1) // jobs)


def _summary(outcomes: list[Outcome], figures: Path, began: float) -> str:
    lines = [f"{'notebook':<24}{'seconds':>8}{'figures':>9}{'claims held':>13}{'not held':>10}"]
    for outcome in outcomes:
        name = outcome.notebook.stem
        drawn = (p for ending in ("png", "gif") for p in figures.glob(f"{name[:2]}_*.{ending}"))
        made = {p.stem for p in drawn if p.stat().st_mtime >= began}
        held, missed = ("-", "-") if outcome.error else _count_claims(figures / f"{name}_claims.csv")
        lines.append(f"{name:<24}{outcome.seconds:>8.0f}{len(made):>9}{held:>13}{missed:>10}")
    lines += [f"{outcome.notebook.stem}: {outcome.error}" for outcome in outcomes if outcome.error]
    return "\n".join(lines)


def _count_claims(path: Path) -> tuple[int, int]:
    with open(path, newline="") as file:
        verdicts = [row["ours"] for row in csv.DictReader(file)]
    return verdicts.count("holds"), verdicts.count("does not hold")


DEFAULTS = {
    "profile": "quick",
    "only": "",
    "seed": 0,
    "jobs": os.cpu_count() or 1,
    "reuse_stale": False,
    "port": 8888,
    "no_browser": False,
    "settings": [],
}
READS = {
    "reproduce": ("profile", "only", "seed", "jobs", "reuse_stale", "settings"),
    "lab": ("only", "port", "no_browser"),
    "report": ("profile", "only"),
    "test": ("jobs",),
    "refresh": ("only", "jobs"),
    "verify": (),
    "bench": ("only",),
    "setup": (),
}
COMMANDS = {
    "reproduce": _reproduce,
    "lab": _lab,
    "report": _report,
    "test": _test,
    "refresh": _refresh,
    "verify": _verify,
    "bench": _bench,
    "setup": _setup,
}

if __name__ == "__main__":
    sys.exit(main())
