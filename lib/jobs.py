"""Compute one job of the workflow: `python -m lib.jobs NAME PROFILE SEED OVERRIDES`; a finished one ends at once.

With `torchrun --nproc_per_node=N -m lib.jobs ...` N processes, on a GPU each where there are GPUs, share one image
run. The results are those of the functions that the notebooks call, kept where the notebooks look for them.
"""

import argparse
import json
import sys

import torch

from lib import distributed, experiments, paths, plan, profiles, toy
from lib.checks import BadInput, NotFinite, require
from lib.loop import fit_first, retrain
from lib.profiles import Profile


def compute(job: plan.Job, profile: Profile) -> None:
    """Leave the result of a job under `paths.runs()`, where it is not there yet."""
    if job.rule in ("toy_p0", "toy_run"):
        _compute_toy(job, profile)
    else:
        _compute_image(job, profile)


def _compute_toy(job: plan.Job, profile: Profile) -> None:
    settings = profile.toy.model_copy(update=job.changes)
    task = experiments.toy_task(toy.TOYS[job.what](), settings, job.seed)
    if job.rule == "toy_p0":
        fit_first(task, job.seed)
    else:
        retrain(experiments.toy_config(task, settings, job.arm, job.seed))


def _compute_image(job: plan.Job, profile: Profile) -> None:
    from lib import image_experiments  # its import takes longer than a short toy run

    if job.rule != "image_run":
        image_experiments.prepare(profile.images, job.what)
        return
    settings = profile.images.model_copy(update=job.changes)
    parts, reward = image_experiments.studio(settings), None if job.arm == "control" else job.what
    task = image_experiments.image_task(parts, reward, job.judge)
    retrain(image_experiments.image_config(task, settings, job.arm, job.seed, job.rounds))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of a job in the plan of some notebook")
    parser.add_argument("profile")
    parser.add_argument("seed", type=int)
    parser.add_argument("overrides", type=json.loads, help="single settings by dotted key, as JSON")
    asked = parser.parse_args()
    try:
        distributed.setup()
        profile = profiles.load(asked.profile, asked.overrides)
        planned = {
            job.name: job
            for notebook in paths.NOTEBOOKS.glob("*.py")
            for job in plan.jobs(notebook.stem, profile, asked.seed)
        }
        require(asked.name in planned, "job", asked.name, f"one of {', '.join(planned)}")
        compute(planned[asked.name], profile)
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    except (NotFinite, OSError, torch.OutOfMemoryError) as error:
        print(f"{asked.name}: {error}; nothing finished is lost", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
