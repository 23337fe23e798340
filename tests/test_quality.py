"""Quality metrics against closed forms, with the order of arguments that is easy to get wrong."""

import numpy as np
import pytest
import torch
from cleanfid.fid import fid_from_feats

from lib import quality
from lib.checks import BadInput


def features(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def whitened(n: int, d: int, seed: int) -> torch.Tensor:
    """Features whose sample mean is 0 and whose sample covariance is the identity, to rounding."""
    x = features(n, d, seed).double()
    x -= x.mean(dim=0)
    return x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T


def test_frechet_distance_of_gaussians_is_the_closed_form():
    x = whitened(500, 4, 0)
    scale, shift = torch.tensor([0.5, 1.0, 2.0, 3.0]), torch.tensor([1.0, 0.0, -2.0, 0.0])
    expected = float((shift**2).sum() + ((scale - 1) ** 2).sum())
    assert quality.frechet_distance(x * scale + shift, x) == pytest.approx(expected, abs=1e-9)


def test_frechet_distance_of_equal_sets_is_zero_and_it_is_symmetric():
    a, b = features(300, 8, 1), 2 * features(400, 8, 2)
    assert quality.frechet_distance(a, a) == pytest.approx(0.0, abs=1e-6)
    assert quality.frechet_distance(a, b) == pytest.approx(quality.frechet_distance(b, a), rel=1e-9)


def test_frechet_distance_agrees_with_clean_fid():
    a, b = features(300, 8, 1), 1.5 * features(400, 8, 2) + 0.3
    assert quality.frechet_distance(a, b) == pytest.approx(fid_from_feats(a.numpy(), b.numpy()), rel=1e-5)


def test_frechet_distance_survives_features_that_never_vary():
    a = torch.cat([features(300, 4, 1), torch.zeros(300, 3)], dim=1)
    assert quality.frechet_distance(a, torch.zeros(50, 7)) == pytest.approx(
        float(a.mean(dim=0).square().sum() + torch.cov(a.T).trace()), rel=1e-5
    )


def test_precision_counts_generated_and_recall_counts_real():
    real = torch.arange(10.0)[:, None]
    generated = torch.cat([torch.arange(5.0)[:, None], 100 + torch.arange(5.0)[:, None]])
    # half the generated points lie on real ones, the rest far off; 0..4 cover 0..7: the fourth neighbour of
    # the generated point 4 is 3 away
    assert quality.precision_recall(generated, real) == pytest.approx((0.5, 0.8))
    assert quality.precision_recall(real, generated) == pytest.approx((0.8, 0.5))


def test_too_few_features_are_refused():
    with pytest.raises(BadInput, match=r"features\.shape"):
        quality.precision_recall(features(3, 2, 0), features(9, 2, 0))
    with pytest.raises(BadInput, match=r"features\.shape"):
        quality.frechet_distance(features(1, 2, 0), features(9, 2, 0))


class FakeInception(torch.nn.Module):
    """Stands where Inception's TorchScript file does: 2048 features from 299x299 pixels scaled to [-1, 1]."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d((32, 64)), FirstChannel(), torch.nn.Flatten())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class FirstChannel(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :1]


def test_inception_features_see_resized_and_scaled_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(quality, "INCEPTION", tmp_path / quality.INCEPTION.name)
    torch.jit.script(FakeInception()).save(str(quality.INCEPTION))
    level = torch.tensor([0, 128, 255], dtype=torch.uint8)
    images = level[:, None, None, None].expand(3, 3, 32, 32).contiguous()
    found = quality.inception_features(images, batch=2)
    assert found.shape == (3, 2048)
    np.testing.assert_allclose(found[:, 0], [-1, 0, 127 / 128], atol=1e-5)
    with pytest.raises(BadInput, match=r"images\.shape"):
        quality.inception_features(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))


def test_columns_name_precision_and_recall_as_they_are():
    real = torch.arange(10.0)[:, None]
    generated = torch.cat([torch.arange(5.0)[:, None], 100 + torch.arange(5.0)[:, None]])
    found = quality.columns(generated, real)
    assert (found["precision"], found["recall"]) == pytest.approx((0.5, 0.8))
    assert found["frechet_distance_evaluator"] == quality.frechet_distance(generated, real)
