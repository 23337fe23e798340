"""The plan of a profile names the runs that its notebooks read: all of them, and no others."""

import runpy

import pytest
import torch

from lib import experiments, image_experiments, jobs, paths, plan, products, profiles, runs
from lib.image_experiments import ImageSet, Judge, Studio, Weights

TINY = {
    "toy.rounds": 1,
    "toy.seeds": 2,
    "toy.n_real": 500,
    "toy.n_keep": 64,
    "toy.first_steps": 5,
    "toy.round_steps": 26,
    "toy.batch": 16,
    "toy.width": 8,
    "toy.grid": 32,
    "images.reward_epochs": 1,
    "images.evaluator_epochs": 1,
    "images.smoothed_epochs": 1,
    "images.round_steps": 1,
    "images.ode_steps": 1,
    "images.rounds": 2,
    "images.quality_rounds": 3,
    "images.study_rounds": 1,
    "images.repeats": 2,
    "images.n_keep": 64,
    "images.n_quality": 50,
}
TRAINED = sorted(p.stem for p in paths.NOTEBOOKS.glob("*.py") if plan.jobs(p.stem, profiles.load("quick"), 0))


def folders():
    return {path.name for path in paths.runs().iterdir()} if paths.runs().exists() else set()


def test_lists_agree_with_those_of_the_experiments():
    assert plan.ARMS == experiments.ARMS
    assert plan.JUDGES == image_experiments.JUDGES


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_judges_of_a_plan_are_those_of_the_studio(smoothing, monkeypatch):
    for made in ("_judge", "_p0"):  # networks, which take longer than their names
        monkeypatch.setattr(image_experiments, made, lambda *_: None)
    profile = profiles.load("quick", {"images.label_smoothing": smoothing})
    studio = image_experiments.studio.__wrapped__(profile.images)  # past its memory
    assert tuple(studio.judges) == plan.judges(profile)
    assert len(studio.judges) == (2 if smoothing else 1)


@pytest.fixture
def folder_of(monkeypatch):
    """(job, profile) -> the folder that the job writes its run to, without data, networks or training."""
    weights, few = Weights({}, "", {}, {}), torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    labels, written = torch.zeros(1, dtype=torch.int64), []

    def studio(settings):
        named = {name: Judge(None, weights) for name in plan.JUDGES}
        return Studio(settings, ImageSet(few, labels, few, labels), named, Judge(None, weights), weights)

    monkeypatch.setattr(image_experiments, "studio", studio)
    monkeypatch.setattr(jobs, "retrain", lambda c: written.append(runs.folder(c.task.name, c.settings())))

    def find(job, profile):
        jobs.compute(job, profile)
        return written.pop()

    return find


@pytest.mark.parametrize("name", profiles.names())
def test_no_two_jobs_of_a_plan_write_to_one_folder(name, folder_of):
    profile = profiles.load(name, {"toy.n_real": 10})  # enough to tell seeds apart
    planned = {job.name: job for found in plan.plans(TRAINED, profile, 0).values() for job in found}
    folders = [folder_of(job, profile) for job in planned.values() if job.rule in ("image_run", "toy_run")]
    assert len(set(folders)) == len(folders) > 0


@pytest.mark.parametrize("name", profiles.names())
def test_no_notebook_lacks_a_round_of_a_run_that_it_shares(name):
    profile = profiles.load(name)
    for notebook, found in plan.plans(TRAINED, profile, 0).items():
        lengths = {job.result: job.rounds for job in found}
        alone = {job.result: job.rounds for job in plan.jobs(notebook, profile, 0)}
        assert list(lengths) == list(alone)
        assert all(lengths[result] >= rounds for result, rounds in alone.items())


def test_a_run_is_as_long_as_the_chosen_notebooks_need_it():
    profile = profiles.load("cifar")
    for chosen, rounds in (("04", profile.images.rounds), ("04 06", profile.images.quality_rounds)):
        for found in plan.plans(chosen.split(), profile, 0).values():
            (control,) = [job for job in found if job.result == "control-seed0"]
            assert control.rounds == rounds


def test_notebooks_that_train_have_a_plan():
    assert TRAINED == [
        "02_gaussian_mixture",
        "03_two_moons",
        "04_airplane_reward",
        "05_confidence_bias",
        "06_quality_with_real_data",
        "07_repeated_runs",
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("notebook", TRAINED)
def test_a_plan_leaves_its_notebook_nothing_to_train_and_nothing_it_does_not_read(notebook, scratch, monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    for drawn in ("figure", "picture", "stored"):  # drawing takes longer than these runs
        monkeypatch.setattr(products, drawn, lambda *_, **__: None)
    profile, seed = profiles.load("quick", TINY), 3
    image_experiments.studio.cache_clear()
    for job in plan.jobs(notebook, profile, seed):
        jobs.compute(job, profile)
    planned = folders()
    monkeypatch.setenv("CURATED_LOOPS_RUNS", str(scratch / "runs_of_the_notebook"))
    image_experiments.studio.cache_clear()
    text = (paths.NOTEBOOKS / f"{notebook}.py").read_text()
    text = text.replace("overrides = {}", f"overrides = {TINY}").replace("seed = 0", f"seed = {seed}")
    script = scratch / "notebook.py"
    script.write_text(text)
    found = runpy.run_path(str(script))
    assert planned == folders() != set()
    if notebook[:2] == "07":
        assert {s: one.runs["curated"][0].config.seed for s, one in found["runs"].items()} == {3: 3, 4: 4}
