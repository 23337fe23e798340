import itertools
import math

import numpy as np
import pytest
import torch

from lib import curation, toy
from lib.checks import BadInput
from lib.generators.ddpm import Ddpm
from lib.seeds import derive, torch_rng

PURPOSES = ("sample", "fit", "curate", "generator", "step", "noise", "weights", "real")


def test_derived_seeds_keep_their_values_across_processes_and_versions():
    assert derive(0, "curate", round=1) == 8304386091373869783
    assert derive(7, "step", index=3) == 5700684580136228729


def test_every_purpose_round_and_index_has_its_own_seed():
    keys = list(itertools.product(range(5), PURPOSES, range(20), range(5)))
    assert len({derive(s, p, round=t, index=i) for s, p, t, i in keys}) == len(keys)


def test_streams_are_uncorrelated():
    n = 5000
    keys = [(s, p, t) for s in (0, 1) for p in ("sample", "fit") for t in (0, 1)]
    draws = [torch.randn(n, generator=torch_rng(derive(s, p, round=t))).numpy() for s, p, t in keys]
    off_diagonal = np.corrcoef(draws)[np.triu_indices(len(draws), 1)]
    assert np.abs(off_diagonal).max() < 4.5 / math.sqrt(n)


def test_derived_seeds_fit_torch_and_numpy():
    for i in range(200):
        seed = derive(i, "sample")
        assert 0 <= seed < 2**63
        torch_rng(seed)


@pytest.mark.parametrize("seed", [-1, 1.5, "1"])
def test_a_seed_that_is_no_whole_number_is_refused(seed):
    with pytest.raises(BadInput, match="seed"):
        derive(seed, "sample")


@pytest.mark.parametrize(
    "draw",
    [
        lambda: Ddpm(seed=1, width=8),
        lambda: Ddpm(seed=1, width=8).fit(torch.randn(10, 2, generator=torch_rng(0)), 3, seed=1, batch=4),
        lambda: Ddpm(seed=1, width=8).sample(5, seed=1),
        lambda: toy.gaussians().sample(10, seed=1),
        lambda: curation.k_choice(torch.zeros(10), 2, 5, seed=1),
        lambda: curation.k_choice(torch.zeros(10), 2, 5, seed=1, menus="resample"),
    ],
    ids=["build", "fit", "sample", "data", "disjoint", "resample"],
)
def test_global_generators_are_neither_moved_nor_read(draw):
    def state():
        return torch.get_rng_state().clone(), np.random.get_state()[1].copy()  # noqa: NPY002

    before = state()
    draw()
    after = state()
    assert torch.equal(before[0], after[0])
    assert (before[1] == after[1]).all()


def test_results_do_not_depend_on_the_global_seed():
    results = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)  # noqa: NPY002
        model = Ddpm(seed=3, width=8)
        model.fit(toy.moons().sample(50, seed=1), 3, seed=4, batch=8)
        results.append(model.sample(20, seed=5))
    assert torch.equal(*results)
