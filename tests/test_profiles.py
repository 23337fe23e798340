import math
import re

import pytest
import yaml

from lib import paths, profiles
from lib.checks import BadInput

LEAVES = sorted(
    (section, key, value)
    for section, keys in yaml.safe_load((paths.PROFILES / "quick.yaml").read_text()).items()
    for key, value in keys.items()
)
EVERY_KEY = pytest.mark.parametrize(("section", "key", "value"), LEAVES, ids=[f"{s}.{k}" for s, k, _ in LEAVES])


@EVERY_KEY
def test_every_key_is_read_into_the_profile(section, key, value):
    assert profiles.load("quick").model_dump(mode="json")[section][key] == value


@EVERY_KEY
def test_every_key_is_commented_where_it_stands(section, key, value):
    text = (paths.PROFILES / "quick.yaml").read_text()
    block = re.split(r"^(?=\w)", text, flags=re.MULTILINE)
    lines = next(part for part in block if part.startswith(f"{section}:"))
    assert re.search(rf"^  {key}: \S+ +# \S.{{10,}}", lines, flags=re.MULTILINE)


def test_the_profile_has_no_key_that_quick_does_not_name():
    model = profiles.load("quick").model_dump(exclude={"name"})
    assert {(s, k) for s, keys in model.items() for k in keys} == {(s, k) for s, k, _ in LEAVES}


def test_keys_of_the_toy_section_all_reach_the_experiment():
    source = (paths.PROJECT / "lib" / "experiments.py").read_text()
    unread = [k for s, k, _ in LEAVES if s == "toy" and not re.search(rf'settings\.{k}\b|"{k}"', source)]
    assert unread == []


@pytest.mark.parametrize("name", profiles.names())
def test_every_profile_is_valid(name):
    assert profiles.load(name).name == name


def test_overrides_change_their_key_alone():
    plain, changed = profiles.load("quick"), profiles.load("quick", {"toy.rounds": 3, "population.grid": 64})
    assert changed.toy.rounds == 3
    assert changed.population.grid == 64
    assert changed.toy.model_copy(update={"rounds": plain.toy.rounds}) == plain.toy
    assert profiles.load("quick") == plain


def test_a_profile_lists_only_its_differences(scratch, monkeypatch):
    (scratch / "quick.yaml").write_text((paths.PROFILES / "quick.yaml").read_text())
    (scratch / "long.yaml").write_text("toy:\n  rounds: 77\n")
    monkeypatch.setattr(paths, "PROFILES", scratch)
    quick, long = profiles.load("quick"), profiles.load("long")
    assert long.toy.rounds == 77
    assert long.toy.model_copy(update={"rounds": quick.toy.rounds}) == quick.toy
    assert long.population == quick.population
    (scratch / "long.yaml").write_text("toy:\n  round: 77\n")
    with pytest.raises(BadInput, match=r"did you mean 'toy\.rounds'"):
        profiles.load("long")


def test_an_unknown_profile_is_refused_with_those_there_are():
    with pytest.raises(BadInput, match=r"profile = 'quik': must be one of .*quick"):
        profiles.load("quik")


@pytest.mark.parametrize(
    ("key", "meant"), [("toy.round", "toy.rounds"), ("toy.gama", "toy.gamma"), ("lam", "toy.lam")]
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(key, meant):
    with pytest.raises(BadInput, match=f"unknown, did you mean '{meant}'"):
        profiles.load("quick", {key: 1})


def test_an_unknown_key_like_no_other_is_refused_without_a_guess():
    with pytest.raises(BadInput, match=r"'zzz': unknown$"):
        profiles.load("quick", {"zzz": 1})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("toy.k", 1),
        ("toy.lam", 0),
        ("toy.lam", -1.0),
        ("toy.lam", math.nan),
        ("toy.lam", math.inf),
        ("toy.gamma", math.nan),
        ("toy.gamma", -0.1),
        ("images.confidence_gamma", 400.0),
        ("toy.rounds", 0),
        ("toy.rounds", 2.5),
        ("toy.rounds", "many"),
        ("toy.rounds", None),
        ("toy.rounds", [3]),
        ("toy.seeds", 0),
        ("toy.grid", 8),
        ("toy.variance", "learned"),
        ("toy.menus", "overlapping"),
        ("toy.start", 1),
        ("population.grid", 4096),
    ],
)
def test_values_out_of_range_are_refused_in_one_line_with_their_key(key, value):
    with pytest.raises(BadInput) as refusal:
        profiles.load("quick", {key: value})
    assert str(refusal.value).startswith(f"{key} = {value!r}: ")
    assert "\n" not in str(refusal.value)


def test_a_profile_cannot_be_changed_after_it_is_loaded():
    with pytest.raises(ValueError, match="frozen"):
        profiles.load("quick").toy.rounds = 4
