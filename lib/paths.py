"""Where things live. Absolute, so that a notebook may be opened from any folder."""

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
NOTEBOOKS = PROJECT / "notebooks"
PROFILES = PROJECT / "profiles"
CHECKPOINTS = PROJECT / "checkpoints"
REUSE_STALE = "CURATED_LOOPS_REUSE_STALE"  # where set, finished runs of other code are read too (lib.runs.find)


def named(variable: str) -> Path | None:
    """The folder in an environment variable, a relative one from the project's; None where there is none."""
    value = os.environ.get(variable)
    return PROJECT / Path(value).expanduser() if value else None


def runs() -> Path:
    """Finished and unfinished runs: $CURATED_LOOPS_RUNS, else runs/. Safe to delete; costs a re-run."""
    return named("CURATED_LOOPS_RUNS") or PROJECT / "runs"


def figures(profile: str) -> Path:
    """Figures, their numbers and provenance: $CURATED_LOOPS_FIGURES/<profile>, else paper_figs/<profile>."""
    return (named("CURATED_LOOPS_FIGURES") or PROJECT / "paper_figs") / profile
