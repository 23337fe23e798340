"""A recorded table says what the runs behind it said."""

import itertools
import json
import re

import numpy as np
import pandas as pd
import pytest

from lib import image_claims, products, recorded
from lib.checks import BadInput
from lib.claims import Claim, table
from lib.experiments import Experiment, long_table


class Measured(Experiment):
    """An experiment whose histories are given, not run."""

    def histories(self, arm):
        return self.runs[arm]


def history(seeds, rounds, shift):
    rows = []
    for seed, t in itertools.product(seeds, range(rounds + 1)):
        rng = np.random.default_rng([seed, t])
        share = rng.dirichlet(np.full(10, 5.0))
        rows.append(
            {
                "round": t,
                "seed": seed,
                "mean_reward": shift * t,
                "entropy": 2.0 - shift * t,
                "seconds": 1.5,
                "n_pool": 1024,
            }
            | {f"share_{i}": value for i, value in enumerate(share)}
            | {"frechet_distance_evaluator": 1 + t, "precision": 0.5, "recall": 0.5 - 0.1 * t}
        )
    return pd.DataFrame(rows)


SHIFTS = {"curated": 0.3, "mixed": 0.1, "control": 0.0}


@pytest.fixture
def there(tmp_path):
    """An experiment of two seeds with a floor and two judges, recorded as "05_x" in the folder "cifar"."""
    seeds, folder = [0, 1], tmp_path / "cifar"
    runs = {arm: history(seeds, 3, shift) for arm, shift in SHIFTS.items()}
    exact = {arm: history([0], 3, 0.2).drop(columns=["seed", "seconds"]) for arm in runs}
    chance = {arm: pd.concat([t.assign(repeat=0), t.assign(repeat=1, share_3=0.5)]) for arm, t in exact.items()}
    experiment = Measured(runs, exact, chance)
    folder.mkdir()
    floor = {"precision": 0.9, "recall": 0.8}
    tables = [long_table(experiment, floor, judge=judge) for judge in ("fitted", "smoothed")]
    tables.append(pd.DataFrame([{"arm": "none", "kind": "real, blurred", "judge": "fitted", "precision": 0.7}]))
    pd.concat(tables).to_csv(folder / "05_x.csv", index=False, float_format="%.6g")
    origin = {"commit": "abcdef0123456789", "clean_tree": False, "processor": "X", "device": "cpu", "threads": 2}
    about = {
        "profile": {"name": "cifar", "images": {"n_keep": 256, "k": 4, "round_steps": 50, "batch": 64}},
        "provenance": origin | {"runs": 6, "seconds": 5400.0},
    }
    (folder / "05_x.json").write_text(json.dumps(about))
    return experiment


def test_histories_and_exact_dynamics_come_back(there, tmp_path):
    record = recorded.load("05_x", tmp_path / "cifar", judge="fitted")
    assert record.arms == there.arms
    assert record.seeds == [0, 1]
    for arm in there.arms:
        written = there.histories(arm).drop(columns="seconds")
        read = record.histories(arm)[list(written)]
        pd.testing.assert_frame_equal(read, written, rtol=1e-5, check_dtype=False)
        pd.testing.assert_frame_equal(
            record.exact[arm][list(there.exact[arm])], there.exact[arm], rtol=1e-5, check_dtype=False
        )
        bounds = record.finite[arm].groupby("round")["share_3"].agg(["min", "max"])
        own = there.finite[arm].groupby("round")["share_3"].agg(["min", "max"])
        pd.testing.assert_frame_equal(bounds, own, rtol=1e-5)
    assert record.floor == {"precision": 0.9, "recall": 0.8}
    assert record.others == {"real, blurred": {"precision": 0.7}}
    assert recorded.load("05_x", tmp_path / "cifar", judge="smoothed").others == {}


def test_claims_of_a_record_are_those_of_its_runs(there, tmp_path):
    record = recorded.load("05_x", tmp_path / "cifar", judge="fitted")
    for claims in (image_claims.quality_claims, lambda e: image_claims.bias_claims(e, "fitted", 15.0, 256)):
        assert claims(record) == claims(there)


def test_what_the_record_leaves_open_has_no_verdict_in_its_tables():
    stored = products.recorded().query("profile == 'cifar'")
    unsettled = stored[stored["ours"] == products.UNSETTLED]["claim"]
    assert sorted(unsettled) == sorted(recorded.NEAR)
    claims = [Claim(statement, "ours", True, "") for statement in (recorded.NEAR[1], "another")]
    assert recorded.near(claims) == [recorded.NEAR[1]]


def test_a_caption_names_profile_seeds_size_and_commit(there, tmp_path):
    source = recorded.load("05_x", tmp_path / "cifar", judge="smoothed").source
    for part in (
        "`cifar`",
        "seeds 0, 1 on X",
        "3 rounds",
        "K = 4, 256 of 1,024 images kept and 50 steps of 64 images a round",
        "90 minutes for 6 runs, added up",
        "device cpu",
        "`abcdef0123`",
        "not clean",
    ):
        assert part in source


def test_what_was_not_recorded_is_named(there, tmp_path):
    with pytest.raises(BadInput, match=r"99_nothing.*cifar"):
        recorded.load("99_nothing", tmp_path / "cifar")


NUMBER = r"[-+]?\d+\.\d+"
FIGURES = [
    ("04_airplane_reward", "04_class_shares", lambda r: image_claims.airplane_claims(r, 0, 5.0, 256)),
    ("05_confidence_bias", "05_class_shares", lambda r: image_claims.bias_claims(r, "fitted", 15.0, 256)),
    ("06_quality_with_real_data", "06_quality", image_claims.quality_claims),
    ("07_repeated_runs", "07_curves", lambda r: image_claims.repeat_claims(r, 15.0, 256)),
]


@pytest.mark.parametrize(("notebook", "figure", "claims"), FIGURES)
def test_recorded_claims_are_those_of_the_recorded_tables(notebook, figure, claims):
    columns = {"judge": "fitted"} if figure.startswith("05") else {}
    judged = claims(recorded.load(figure, **columns))
    found = table(judged, measured=True)
    found["ours"] = found["ours"].mask(found["claim"].isin(recorded.near(judged)), products.UNSETTLED)
    stored = pd.read_csv(recorded.FOLDER / f"{notebook}_claims.csv")
    verdicts = ["claim", "paper", "ours"]
    assert found[verdicts].to_dict("list") == stored[verdicts].to_dict("list")
    for ours, theirs in zip(found["measured"], stored["measured"], strict=True):
        assert re.sub(NUMBER, "", ours) == re.sub(NUMBER, "", theirs)
        # the table has six digits of the shares, and what chance does is drawn from them
        assert list(map(float, re.findall(NUMBER, ours))) == pytest.approx(
            list(map(float, re.findall(NUMBER, theirs))), abs=0.005
        )
