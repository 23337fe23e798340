"""Runs of other code are reused on request only, and whatever rests on them says so."""

import json
import os

import pandas as pd
import pytest

from lib import experiments, figures, paths, products, profiles, reproduce, runs, toy, verify
from lib.loop import retrain

TINY = {
    "toy.rounds": 2,
    "toy.n_real": 300,
    "toy.n_keep": 32,
    "toy.first_steps": 4,
    "toy.round_steps": 2,
    "toy.batch": 16,
    "toy.width": 8,
    "toy.seeds": 1,
    "toy.grid": 32,
}
SETTINGS = {"a": 1, "b": [1, 2]}


@pytest.fixture(autouse=True)
def nothing_stale_yet(monkeypatch):
    monkeypatch.setattr(runs, "_stale", set())
    monkeypatch.delenv(paths.REUSE_STALE, raising=False)
    monkeypatch.setenv("TQDM_DISABLE", "1")


@pytest.fixture
def profile():
    return profiles.load("quick", TINY)


def code(monkeypatch, letter):
    """Let the tree's code be other code."""
    monkeypatch.setitem(runs.IMPORTED, "code_sha256", letter * 64)
    monkeypatch.setattr(runs, "code_on_disk", lambda: letter * 64)


def run(profile, arm="curated"):
    task = experiments.toy_task(toy.moons(), profile.toy, 0)
    return retrain(experiments.toy_config(task, profile.toy, arm, 0))


def save(folder, value):
    store = runs.Store(folder, SETTINGS)
    with store.lock():
        store.save("end", {}, {"value": value})


def test_without_the_request_other_code_computes_anew(profile, monkeypatch):
    code(monkeypatch, "a")
    run(profile)
    code(monkeypatch, "b")
    assert run(profile).provenance["code_sha256"] == "b" * 64
    assert runs.stale() == []


def test_on_request_the_finished_run_is_read_and_named(profile, monkeypatch):
    code(monkeypatch, "a")
    old = run(profile)
    code(monkeypatch, "b")
    monkeypatch.setenv(paths.REUSE_STALE, "1")
    with pytest.warns(UserWarning, match=r"moons-\w{8}-aaaaaaaa: computed by other code than this tree's, reused"):
        again = run(profile)
    assert again.provenance["code_sha256"] == "a" * 64
    assert again.history.equals(old.history)
    assert [name[-9:] for name in runs.stale()] == ["-aaaaaaaa"]


def test_a_run_of_this_code_comes_first(profile, monkeypatch):
    code(monkeypatch, "a")
    run(profile)
    code(monkeypatch, "b")
    run(profile)
    monkeypatch.setenv(paths.REUSE_STALE, "1")
    assert run(profile).provenance["code_sha256"] == "b" * 64
    assert runs.stale() == []


@pytest.mark.filterwarnings("ignore:.*computed by other code")
def test_a_run_of_this_code_comes_first_also_after_a_stale_one_was_read(profile, monkeypatch):
    code(monkeypatch, "a")
    run(profile, "curated")
    code(monkeypatch, "b")
    run(profile, "control")
    monkeypatch.setenv(paths.REUSE_STALE, "1")
    run(profile, "curated")
    before = runs.stale()
    assert run(profile, "control").provenance["code_sha256"] == "b" * 64
    assert runs.stale() == before


def test_other_settings_unfinished_and_damaged_runs_are_not_reused(profile, monkeypatch):
    code(monkeypatch, "a")
    run(profile)
    code(monkeypatch, "b")
    monkeypatch.setenv(paths.REUSE_STALE, "1")
    longer = profiles.load("quick", TINY | {"toy.round_steps": 3})
    assert run(longer).provenance["code_sha256"] == "b" * 64
    (middle,) = paths.runs().glob("moons-*-aaaaaaaa/round_001.safetensors")
    whole = middle.read_bytes()
    middle.write_bytes(whole[:-4])
    with pytest.warns(UserWarning, match="damaged"):
        assert run(profile).provenance["code_sha256"] == "b" * 64
    assert runs.stale() == []


@pytest.mark.filterwarnings("ignore:.*computed by other code")
def test_the_newest_of_several_is_read(monkeypatch):
    for letter in "abc":
        code(monkeypatch, letter)
        save(runs.folder("x", SETTINGS), letter)
    (paths.runs() / "unrelated").mkdir()
    for letter, finished in (("a", 1e9), ("b", 3e9), ("c", 2e9)):
        (path,) = paths.runs().glob(f"x-*-{letter * 8}/end.safetensors")
        os.utime(path, (finished, finished))
    code(monkeypatch, "d")
    monkeypatch.setenv(paths.REUSE_STALE, "1")
    assert runs.find("x", SETTINGS, ["end"]).load("end")[1] == {"value": "b"}


@pytest.mark.filterwarnings("ignore:.*computed by other code")
def test_what_rests_on_stale_results_is_kept_apart_from_what_does_not(profile, monkeypatch):
    code(monkeypatch, "a")
    save(runs.folder("weights", SETTINGS), 1)
    code(monkeypatch, "b")
    monkeypatch.setenv(paths.REUSE_STALE, "1")
    runs.find("weights", SETTINGS, ["end"])
    mixed = run(profile)
    assert len(mixed.provenance["stale"]) == 1
    monkeypatch.setattr(runs, "_stale", set())
    monkeypatch.delenv(paths.REUSE_STALE)
    assert run(profile).provenance["stale"] == []


@pytest.mark.filterwarnings("ignore:.*computed by other code")
def test_a_figure_of_a_reused_run_says_so_and_verify_repeats_it(profile, monkeypatch, capsys):
    code(monkeypatch, "a")
    experiments.toy_experiment("moons", profile, 0, ("control",))
    code(monkeypatch, "b")
    monkeypatch.setenv(paths.REUSE_STALE, "1")
    found = experiments.toy_experiment("moons", profile, 0, ("control",))
    drawn, _ = figures.subplots(1, 1, 2, 2)
    numbers = pd.DataFrame({"x": [0.0]})
    products.figure(drawn, "09_x", profile, seed=0, numbers=numbers, alt="x", run=found.provenance)
    about = json.loads((paths.figures("quick") / "09_x.json").read_text())
    (folder,) = about["provenance"]["stale"]
    assert folder.endswith("-aaaaaaaa")
    (verdict,) = verify.verify(paths.figures("").resolve())
    assert verdict.stale == [folder]
    assert not verdict.agrees
    assert reproduce.main(["verify"]) == 1
    assert f"{folder}: was computed by other code, and reused" in capsys.readouterr().out


def test_the_option_reaches_every_job(monkeypatch):
    seen = {}
    monkeypatch.setattr(reproduce.workflow, "run", lambda *_, **__: seen.update(reproduce.os.environ) or {})
    monkeypatch.setenv(paths.REUSE_STALE, "")
    reproduce.main(["--only", "01", "--reuse-stale"])
    assert seen[paths.REUSE_STALE] == "1"
