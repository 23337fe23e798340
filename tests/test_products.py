"""What is read back from paper_figs/: claims tables of several profiles, and recorded figures."""

import io

import pandas as pd
import PIL.Image
import pytest

from lib import figures, products, profiles
from lib.checks import BadInput
from lib.claims import Claim

HEAD = "claim,paper,ours,measured"


@pytest.fixture
def recorded(tmp_path):
    """Two profiles, of which the second has run one notebook only."""
    tables = {
        "quick/01_a": ["up,Lemma 2.2,holds,1", '"stays, up","Lemma 2.2, Thm 2.3",holds,2', "x,ours,holds,3"],
        "quick/04_b": ['takes over,"CIFAR-10, airplane",does not hold,0.3'],
        "cifar/04_b": ['takes over,"CIFAR-10, airplane",holds,0.9', 'y,"Thm 2.2, 2.4",does not hold,0.1'],
    }
    for name, lines in tables.items():
        file = tmp_path / f"{name}_claims.csv"
        file.parent.mkdir(exist_ok=True)
        file.write_text("\n".join([HEAD, *lines]) + "\n")
    return products.recorded(tmp_path)


def test_every_table_is_read_by_notebook_and_quick_first(recorded):
    assert list(recorded.columns) == ["profile", "notebook", "claim", "paper", "ours", "measured"]
    places = recorded[["notebook", "profile"]].drop_duplicates().apply(tuple, axis=1).tolist()
    assert places == [("01_a", "quick"), ("04_b", "quick"), ("04_b", "cifar")]
    assert len(recorded) == 6


def test_nothing_recorded_is_an_empty_table(tmp_path):
    nothing = products.recorded(tmp_path)
    assert nothing.empty
    assert products.tally(nothing, "notebook").empty


def test_claims_are_counted_by_notebook_and_profile(recorded):
    held = products.tally(recorded, "notebook")
    assert held.loc["01_a"].to_dict() == {"quick": "3 of 3", "cifar": "-"}
    assert held.loc["04_b"].to_dict() == {"quick": "0 of 1", "cifar": "1 of 2"}


def test_a_claim_about_two_statements_counts_for_both(recorded):
    held = products.tally(recorded, "paper")
    assert held["quick"].to_dict() == {
        "Lemma 2.2": "2 of 2",
        "Thm 2.3": "1 of 1",
        "ours": "1 of 1",
        "CIFAR-10, airplane": "0 of 1",
        "Thm 2.2": "-",
        "Thm 2.4": "-",
    }
    assert held["cifar"]["Thm 2.4"] == "0 of 1"


def test_a_listing_keeps_bars_within_their_cells():
    text = products.listing(pd.DataFrame({"claim": ["KL(p || q)"], "n": [2]})).data
    assert text.splitlines() == ["| claim | n |", "| --- | --- |", r"| KL(p \|\| q) | 2 |"]


def test_a_recorded_figure_is_shown_at_its_size_with_its_words():
    png = products.RECORDED / "quick" / "02_samples.png"
    shown = products.stored("02_samples", "quick")
    with PIL.Image.open(png) as there, PIL.Image.open(io.BytesIO(shown.data)) as here:
        assert here.size == there.size
        assert shown.width == round(there.width * products.SCREEN_DPI / figures.SAVE_DPI)
    assert "Samples by round" in shown.alt
    with pytest.raises(BadInput, match="99_nothing"):
        products.stored("99_nothing", "quick")


@pytest.mark.parametrize(
    ("name", "changes", "seed", "stored"),
    [("quick", {}, 0, True), ("quick", {}, 1, False), ("quick", {"toy.k": 2}, 0, False), ("cifar", {}, 0, False)],
)
def test_figures_are_stored_for_a_profile_as_it_stands_and_seed_0(name, changes, seed, stored):
    assert products.as_stored(profiles.load(name, changes), seed, "quick") is stored


def test_a_verdict_that_hangs_on_rounding_is_none(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CURATED_LOOPS_FIGURES", str(tmp_path))
    found = [Claim("near", "ours", True, "0.258"), Claim("far", "ours", True, "9")]
    profile = profiles.load("quick")
    products.verdicts(found, "07_x", profile, seed=0, unsettled=["near"])
    lines = capsys.readouterr().out.splitlines()[-2:]
    assert [line.split("  ")[-1].strip() for line in lines] == ["too close to call", "holds"]
    assert pd.read_csv(tmp_path / "quick" / "07_x_claims.csv")["ours"].tolist() == ["too close to call", "holds"]
    assert products.tally(products.recorded(tmp_path), "notebook").loc["07_x", "quick"] == "1 of 1, 1 open"
    with pytest.raises(BadInput, match="unsettled"):
        products.verdicts(found, "07_x", profile, seed=0, unsettled=["nearly"])
