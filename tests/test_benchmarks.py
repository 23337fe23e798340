"""The benchmarks measure what they say; the README says what they measured."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks import choice, dynamics, summary, timing
from lib import population


def test_contenders_take_turns():
    calls = []
    table = timing.alternate({name: lambda name=name: calls.append(name) for name in "abc"}, repeats=3)
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab"
    assert list(table["contender"]) == ["a", "b", "c"]
    assert (table["least"] <= table["seconds"]).all()
    assert (table["seconds"] <= table["greatest"]).all()


def test_the_plain_loop_chooses_by_the_same_law():
    values, prob = np.array([0.0, 1.0, 2.0]), np.array([0.5, 0.3, 0.2])
    reward = np.random.default_rng(0).choice(values, 40_000, p=prob)
    kept = reward[choice.plain(reward)]
    counts = [int((kept == value).sum()) for value in values]
    expected = len(kept) * prob * population.choice_weight(values, prob, choice.K)
    assert stats.chisquare(counts, expected * sum(counts) / expected.sum()).pvalue > 1e-3


def test_monte_carlo_approaches_the_exact_step(monkeypatch):
    monkeypatch.setattr(dynamics, "MENUS", (10**4, 10**6))
    table = dynamics.monte_carlo("cpu").set_index("menus")["error"]
    assert table[0] < 1e-14
    assert table[10**4] < 0.03
    assert table[10**6] < 0.003


def test_tables_are_kept_with_their_provenance(tmp_path):
    timing.save("speeds", pd.DataFrame({"contender": ["ours"], "seconds": [0.5]}), tmp_path)
    assert pd.read_csv(tmp_path / "speeds.csv")["seconds"].iloc[0] == 0.5
    about = pd.read_json(tmp_path / "speeds.json", typ="series")
    assert {"date", "cpu", "commit", "clean_tree", "packages"} <= set(about.index)


def test_a_process_that_fails_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="no such thing"):
        timing.process(["bash", "-c", "echo no such thing; exit 3"], tmp_path)


def test_the_readme_holds_the_table_of_the_stored_results():
    found = summary.BLOCK.search(summary.README.read_text())
    assert found, "the README has no table of speeds"
    assert found[0] == found[1] + summary.table() + found[2]


def test_networks_of_both_sides_are_the_published_size():
    pytest.importorskip("torchcfm", reason="a peer of the benchmarks, installed by ./run_all.sh bench")
    from benchmarks import networks

    sizes = {
        "ours": networks.ours("published", "cpu").net,
        "torchcfm": networks.theirs("published", "cpu"),
    }
    for name, net in sizes.items():
        assert sum(p.numel() for p in net.parameters()) == pytest.approx(35.7e6, rel=0.02), name
