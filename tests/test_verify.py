"""`verify` names what has changed since a figure was saved, and nothing else."""

import json
import shutil

import pandas as pd
import pytest

from lib import figures, paths, products, profiles, reproduce, runs, verify
from lib.claims import Claim
from lib.generators.flow import Flow


@pytest.fixture
def saved():
    """A figure saved by the tree as it is; its folder."""
    drawn, axes = figures.subplots(1, 1, 2, 2)
    axes[0, 0].plot([0, 1])
    numbers = pd.DataFrame({"x": [0.0, 1.0]})
    products.figure(drawn, "09_line", profiles.load("quick"), seed=0, numbers=numbers, alt="a line")
    return paths.figures("quick")


def only():
    (verdict,) = verify.verify(paths.figures("").resolve())
    return verdict


def rewrite(folder, change):
    path = folder / "09_line.json"
    about = json.loads(path.read_text())
    change(about)
    path.write_text(json.dumps(about))


def test_a_figure_just_saved_agrees(saved, capsys):
    assert only().agrees
    assert reproduce.main(["verify"]) == 0
    assert "1 of 1 figures and tables agree" in capsys.readouterr().out


@pytest.mark.parametrize("ending", ["png", "svg", "csv"])
def test_an_altered_file_is_named(saved, ending, capsys):
    path = saved / f"09_line.{ending}"
    path.write_bytes(path.read_bytes() + b" ")
    assert only().files == [f"09_line.{ending}: altered"]
    assert reproduce.main(["verify"]) == 1
    assert f"09_line.{ending}: altered" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_damaged_provenance_is_named(saved, text, capsys):
    (saved / "09_line.json").write_text(text)
    assert reproduce.main(["verify"]) == 1
    assert "09_line.json: damaged" in capsys.readouterr().out


def test_a_missing_file_is_named(saved):
    (saved / "09_line.csv").unlink()
    assert only().files == ["09_line.csv: missing"]


def test_changed_code_is_told(saved, monkeypatch):
    monkeypatch.setattr(runs, "spot_digest", lambda: "another")
    assert not only().code
    assert not only().agrees


def test_changed_code_of_a_run_is_told(monkeypatch):
    drawn, _ = figures.subplots(1, 1, 2, 2)
    numbers, quick = pd.DataFrame({"x": [0.0]}), profiles.load("quick")
    products.figure(drawn, "02_x", quick, seed=0, numbers=numbers, alt="x", run=runs.provenance(seconds=1.0))
    assert only().agrees
    monkeypatch.setattr(runs, "code_digest", lambda: "another")
    assert not only().code


@pytest.mark.parametrize("ending", ["json", "csv"])
def test_verdicts_that_were_altered_or_say_nothing_of_their_origin_are_named(ending, capsys):
    claims = [Claim("the sun rises", "ours", True, "today")]
    products.verdicts(claims, "09_sun", profiles.load("quick"), seed=0)
    assert only().agrees
    path = paths.figures("quick") / f"09_sun_claims.{ending}"
    path.unlink() if ending == "json" else path.write_text(path.read_text().replace("holds", "does not hold"))
    assert reproduce.main(["verify"]) == 1
    assert f"09_sun_claims.{ending}" in capsys.readouterr().out


def test_where_there_is_nothing_nothing_agrees(capsys):
    assert reproduce.main(["verify"]) == 1
    assert capsys.readouterr().out == f"{paths.figures('').resolve()}: holds no figures and no tables\n"


def test_changed_settings_are_told_with_both_values(saved):
    rewrite(saved, lambda about: about["profile"]["toy"].update(k=7))
    assert only().settings == [f"toy.k: 7 -> {profiles.load('quick').toy.k}"]


def test_a_profile_that_is_gone_is_told(saved):
    rewrite(saved, lambda about: about["profile"].update(name="gone"))
    assert "profile = 'gone'" in only().settings[0]


def test_a_figure_without_digests_does_not_agree(saved):
    rewrite(saved, lambda about: about.pop("files"))
    assert only().files == ["no digests of its files were kept: save it again"]


@pytest.fixture
def weights(saved, scratch, monkeypatch):
    """A copy of checkpoints/, whose weights of the digits went into the figure."""
    monkeypatch.setattr(paths, "CHECKPOINTS", scratch / "checkpoints")
    shutil.copytree(paths.PROJECT / "checkpoints", paths.CHECKPOINTS)
    flow = Flow.load(paths.CHECKPOINTS / "digits_p0.safetensors")
    inputs = {"p_0": runs.tensors_sha256(*flow.state_dict().values()), "evaluator": "trained for it"}
    rewrite(saved, lambda about: about["provenance"].update(inputs=inputs))
    return flow


def test_weights_that_a_figure_was_not_made_from_are_named(weights):
    assert only().agrees
    card = json.loads((paths.CHECKPOINTS / "digits_p0.json").read_text())
    weights.save(paths.CHECKPOINTS / "digits_p0.safetensors", card | {"written": "again"})
    assert only().agrees
    next(iter(weights.net.parameters())).data[0] += 1e-3
    weights.save(paths.CHECKPOINTS / "digits_p0.safetensors", card)
    assert only().files == ["checkpoints/digits_p0.safetensors: altered"]
    (paths.CHECKPOINTS / "digits_p0.safetensors").write_bytes(b"")
    assert only().files == ["checkpoints/digits_p0.safetensors: altered"]
    (paths.CHECKPOINTS / "digits_p0.safetensors").unlink()
    assert only().files == ["checkpoints/digits_p0.safetensors: missing"]


@pytest.mark.parametrize("name", ["cifar/04_class_shares", "quick/04_class_shares"])
def test_recorded_figures_were_made_from_the_weights_in_this_tree(name):
    about = json.loads((paths.PROJECT / "paper_figs" / f"{name}.json").read_text())
    assert verify._altered_weights(about["profile"], about["provenance"]["inputs"]) == []


def test_another_seed_and_other_packages_are_told_and_are_no_fault(saved, capsys):
    torch = runs.provenance()["packages"]["torch"]
    rewrite(saved, lambda about: about.update(seed=3))
    rewrite(saved, lambda about: about["provenance"]["packages"].update(torch="1.0", gone="2.0"))
    note = f"packages: torch 1.0 -> {torch}, gone 2.0 -> absent"
    assert only().notes == ["seed: 3, not the default 0", note]
    assert reproduce.main(["verify"]) == 0
    assert f"quick, all: {note}\n" in capsys.readouterr().out


def test_notes_that_a_folder_shares_stand_once_and_long_names_stand_apart():
    long = "quick/" + "x" * 40
    verdicts = [
        verify.Verdict(n, [], True, [], [], ["old", *own]) for n, own in (("quick/a", []), (long, ["new"]))
    ]
    lines = verify.report(verdicts).splitlines()
    assert lines[0] == "quick, all: old"
    assert lines[1].split() == ["quick/a", "agrees"]
    assert lines[2:4] == [f"{long}  agrees", "    new"]
