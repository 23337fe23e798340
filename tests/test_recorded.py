"""A recorded table says what the runs behind it said."""

import json

import numpy as np
import pandas as pd
import pytest

from lib import image_claims, recorded
from lib.checks import BadInput
from lib.claims import table
from lib.experiments import Experiment, long_table
from lib.products import RECORDED


class Measured(Experiment):
    """An experiment whose histories are given, not run."""

    def histories(self, arm):
        return self.runs[arm]


def history(seeds, rounds, shift):
    rng = np.random.default_rng(0)
    rows = []
    for seed in seeds:
        for t in range(rounds + 1):
            share = rng.dirichlet(np.full(10, 5.0))
            rows.append(
                {"round": t, "seed": seed, "mean_reward": shift * t, "entropy": 2.0 - shift * t, "seconds": 1.5}
                | {f"share_{i}": value for i, value in enumerate(share)}
                | {"frechet_distance_evaluator": 1 + t, "precision": 0.5, "recall": 0.5 - 0.1 * t}
            )
    return pd.DataFrame(rows)


@pytest.fixture
def there(tmp_path):
    """An experiment, and the folder in which its table is recorded with a floor and a judge."""
    runs = {arm: history([0, 1], 3, shift) for arm, shift in (("curated", 0.3), ("mixed", 0.1), ("control", 0.0))}
    exact = {arm: history([0], 3, 0.2).drop(columns=["seed", "seconds"]) for arm in runs}
    experiment = Measured(runs, exact)
    folder = tmp_path / "cifar"
    folder.mkdir()
    floor = {"precision": 0.9, "recall": 0.8}
    tables = [long_table(experiment, floor, judge=judge) for judge in ("fitted", "smoothed")]
    pd.concat(tables).to_csv(folder / "05_x.csv", index=False, float_format="%.6g")
    made = {"commit": "abcdef0123456789", "clean_tree": False, "device": "cpu", "threads": 2}
    about = {
        "profile": {"name": "cifar", "images": {"n_keep": 256}},
        "provenance": made | {"runs": 6, "seconds_of_all_runs": 5400.0},
    }
    (folder / "05_x.json").write_text(json.dumps(about))
    return experiment


def test_histories_and_exact_dynamics_come_back(there, tmp_path):
    record = recorded.load("05_x", root=tmp_path, judge="fitted")
    assert record.arms == there.arms
    assert record.seeds == [0, 1]
    for arm in there.arms:
        written = there.histories(arm).drop(columns="seconds")
        read = record.histories(arm)[list(written)]
        pd.testing.assert_frame_equal(read, written, rtol=1e-5, check_dtype=False)
        pd.testing.assert_frame_equal(
            record.exact[arm][list(there.exact[arm])], there.exact[arm], rtol=1e-5, check_dtype=False
        )
    assert record.floor == {"precision": 0.9, "recall": 0.8}


def test_claims_of_a_record_are_those_of_its_runs(there, tmp_path):
    record = recorded.load("05_x", root=tmp_path, judge="fitted")
    for claims in (image_claims.quality_claims, lambda e: image_claims.bias_claims(e, "fitted", 15.0)):
        assert claims(record) == claims(there)


def test_a_caption_names_profile_seeds_size_and_commit(there, tmp_path):
    source = recorded.load("05_x", root=tmp_path, judge="smoothed").source
    for part in (
        "`cifar`",
        "seed(s) 0, 1",
        "3 rounds",
        "256 images",
        "1.5 h for 6 runs",
        "`abcdef0123`",
        "not clean",
    ):
        assert part in source


def test_what_was_not_recorded_is_named(there, tmp_path):
    with pytest.raises(BadInput, match=r"cifar/99_nothing"):
        recorded.load("99_nothing", root=tmp_path)


@pytest.mark.parametrize(
    ("notebook", "figure", "claims"),
    [
        ("04_airplane_reward", "04_class_shares", lambda r: image_claims.airplane_claims(r, 0, 5.0)),
        ("05_confidence_bias", "05_class_shares", lambda r: image_claims.bias_claims(r, "fitted", 15.0)),
        ("06_quality_with_real_data", "06_quality", image_claims.quality_claims),
        ("07_repeated_runs", "07_curves", lambda r: image_claims.repeat_claims(r, 15.0)),
    ],
)
def test_recorded_claims_are_those_of_the_recorded_tables(notebook, figure, claims):
    columns = {"judge": "fitted"} if figure.startswith("05") else {}
    found = table(claims(recorded.load(figure, **columns)), measured=True)
    stored = pd.read_csv(RECORDED / recorded.PROFILE / f"{notebook}_claims.csv")
    assert found.to_dict("list") == stored.to_dict("list")
