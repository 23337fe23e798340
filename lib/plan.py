"""What the workflow has to compute before a notebook is drawn: one list, read by workflow/Snakefile and by `jobs`.

Imports no torch, so that a plan is made in a moment, on a cluster's front end too.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from lib.profiles import Profile

TOYS = {"02": "gaussians", "03": "moons"}
LONG = ("02", "03", "04", "05", "07")  # notebooks with many runs of their own
ARMS = ("curated", "mixed", "control")
JUDGES = ("fitted", "smoothed")
RULES = ("classifier", "image_p0", "image_run", "toy_p0", "toy_run")


@dataclass(frozen=True)
class Job:
    """One network, or one run of one arm and seed.

    Attributes:
        rule: one of RULES, the kind of job.
        result: tells what it leaves from what others leave: a longer run of the same goes on in the same folder.
        what: toy_run, toy_p0: the data; image_run: the reward; classifier: "evaluator" or one of JUDGES.
        arm: of a run, one of ARMS.
        seed: of a run, or of a toy p_0.
        judge: of an image run: the reward's classifier.
        rounds: T of an image run.
        changes: settings of the profile's section that differ, by key.
        needs: names of the jobs whose results it reads.
    """

    rule: str
    result: str
    what: str
    arm: str = ""
    seed: int = 0
    judge: str = "fitted"
    rounds: int = 0
    changes: dict[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Tells it from every other job of its plan."""
        return f"{self.result}-{self.rounds}rounds" if self.rounds else self.result


def plans(notebooks: Iterable[str], profile: Profile, seed: int) -> dict[str, list[Job]]:
    """The jobs behind some notebooks; none for one that trains nothing.

    A run that is needed at several lengths is one job of the greatest: who needs less reads its first rounds.

    Args:
        notebooks: their file names, or as much of each as its number.
        profile: a resolved profile.
        seed: the first seed.

    Returns:
        notebook -> its jobs, what is needed first standing first. Two notebooks that need the same run name the
            same job, and no two jobs write to one folder.
    """
    wanted = {notebook: _wanted(notebook[:2], profile, seed) for notebook in notebooks}
    by_length = sorted((job for found in wanted.values() for job in found), key=lambda job: job.rounds)
    longest = {job.result: job for job in by_length}
    return {
        notebook: [longest[result] for result in dict.fromkeys(job.result for job in found)]
        for notebook, found in wanted.items()
    }


def jobs(notebook: str, profile: Profile, seed: int) -> list[Job]:
    """`plans` of one notebook alone."""
    return plans([notebook], profile, seed)[notebook]


def judges(profile: Profile) -> tuple[str, ...]:
    """The reward's classifiers at a profile, some of JUDGES."""
    return JUDGES if profile.images.label_smoothing > 0 else JUDGES[:1]


def fit_lengths(steps: int) -> tuple[int, int, int]:
    """Optimiser steps of the fits that notebook 02 compares, from far too few to the profile's `steps`."""
    return max(1, steps // 75), max(1, steps // 30), steps


def _wanted(number: str, profile: Profile, seed: int) -> list[Job]:
    if number in TOYS:
        return _toy_jobs(number, profile, seed)
    if number in ("04", "05", "06", "07"):
        return _networks(profile) + _image_runs(number, profile, seed)
    return []


def _toy_jobs(number: str, profile: Profile, seed: int) -> list[Job]:
    data, toy = TOYS[number], profile.toy
    found = [_toy_run(profile, data, arm, s) for s in range(seed, seed + toy.seeds) for arm in ARMS]
    if number == "02":
        for steps in fit_lengths(toy.round_steps):
            found.append(_toy_run(profile, data, "curated", seed, round_steps=steps))
        found += [_toy_run(profile, data, "control", seed, variance=v) for v in ("beta", "posterior")]
    first = [Job("toy_p0", f"{data}-p0-seed{s}", data, seed=s) for s in range(seed, seed + toy.seeds)]
    return first + found


def _toy_run(profile: Profile, data: str, arm: str, seed: int, **changes: Any) -> Job:
    changes = {key: value for key, value in changes.items() if value != getattr(profile.toy, key)}
    result = "-".join([data, arm, *_words(changes), f"seed{seed}"])
    return Job("toy_run", result, data, arm, seed, changes=changes, needs=(f"{data}-p0-seed{seed}",))


def _networks(profile: Profile) -> list[Job]:
    named = [Job("classifier", f"classifier-{name}", name) for name in (*judges(profile), "evaluator")]
    return [*named, Job("image_p0", "image-p0", "p0")]


def _image_runs(number: str, profile: Profile, seed: int) -> list[Job]:
    images = profile.images
    repeats = {"05": images.confidence_seeds, "07": images.repeats}
    seeds = range(seed, seed + repeats.get(number, images.seeds))
    if number == "04":
        runs = [_image_run(profile, "airplane", arm, s) for arm in ("curated", "control") for s in seeds]
        choices = [{"k": k, "menus": menus} for menus in ("disjoint", "resample") for k in (2, 4, 8)]
        length = images.study_rounds
        if length == 0:
            return runs
        return runs + [
            _image_run(profile, "airplane", "curated", seed, rounds=length, **choice) for choice in choices
        ]
    arms = ("curated", "control") if number == "07" else ARMS
    read = judges(profile) if number == "05" else JUDGES[:1]
    rounds = images.quality_rounds if number == "06" else images.rounds
    return [
        _image_run(profile, "confidence", arm, s, judge=judge, rounds=rounds)
        for judge in read
        for arm in arms
        for s in seeds
    ]


def _image_run(
    profile: Profile, reward: str, arm: str, seed: int, *, judge: str = "fitted", rounds: int = 0, **changes: Any
) -> Job:
    rounds = rounds or profile.images.rounds
    changes = {key: value for key, value in changes.items() if value != getattr(profile.images, key)}
    # One control serves every reward and judge: nothing is chosen there.
    read = [arm] if arm == "control" else [reward, judge, arm]
    result = "-".join([*read, *_words(changes), f"seed{seed}"])
    needs = tuple(job.name for job in _networks(profile))
    return Job("image_run", result, reward, arm, seed, judge, rounds, changes, needs)


def _words(changes: dict[str, Any]) -> list[str]:
    return [f"{key}_{value}" for key, value in changes.items()]
