"""How near generated images are to real ones: distances between their features.

On features of this project's evaluator the Fréchet distance is called `frechet_distance_evaluator`. `fid` is that
distance on Inception's features as clean-fid computes them (Parmar et al., CVPR 2022), and nothing else.
"""

from pathlib import Path

import numpy as np
import torch
from cleanfid.inception_torchscript import InceptionV3W
from cleanfid.resize import build_resizer
from torch import Tensor
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

from lib.checks import require

INCEPTION = Path("/tmp/inception-2015-12-05.pt")  # where clean-fid keeps its network; never downloaded here
NEIGHBOURS = 3  # radius of a ball in precision and recall: the distance to the third nearest neighbour


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)) of features (n, d) and (m, d).

    The trace of the root is the sum of the roots of the eigenvalues of S_a^(1/2) S_b S_a^(1/2): stable for
    singular covariances too, such as those of a loop that has collapsed.
    """
    for features in (a, b):
        require(features.ndim == 2 and len(features) >= 2, "features.shape", tuple(features.shape), "(n >= 2, d)")
    a, b = a.double().numpy(), b.double().numpy()
    cov_a, cov_b = np.atleast_2d(np.cov(a, rowvar=False)), np.atleast_2d(np.cov(b, rowvar=False))
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    mixed = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(min=0)).sum()
    gap = a.mean(axis=0) - b.mean(axis=0)
    return float(max(gap @ gap + np.trace(cov_a) + np.trace(cov_b) - 2 * mixed, 0.0))


def precision_recall(generated: Tensor, real: Tensor) -> tuple[float, float]:
    """(share of generated features near real ones, share of real features near generated ones).

    Near: within the ball around a feature of the other set that reaches that feature's third nearest
    neighbour in its own set (Kynkäänniemi et al., NeurIPS 2019).

    Args:
        generated: features (n, d), n > 3.
        real: features (m, d), m > 3.
    """
    for features in (generated, real):
        shape = tuple(features.shape)
        require(len(shape) == 2 and len(features) > NEIGHBOURS, "features.shape", shape, f"(n > {NEIGHBOURS}, d)")
    found = prc_features_to_metric(generated, real, prc_neighborhood=NEIGHBOURS, verbose=False)
    return found[KEY_METRIC_PRECISION], found[KEY_METRIC_RECALL]


def columns(generated: Tensor, real: Tensor) -> dict[str, float]:
    """Quality of generated images by the evaluator's features (n, d), as columns of a history."""
    precision, recall = precision_recall(generated, real)
    distance = frechet_distance(generated, real)
    return {"frechet_distance_evaluator": distance, "precision": precision, "recall": recall}


def inception_features(images: Tensor, device: str | torch.device = "cpu", batch: int = 64) -> Tensor:
    """Inception's features for FID, resized as clean-fid does: uint8 (n, 3, H, W) -> (n, 2048) float32.

    Needs the file `INCEPTION`.
    """
    require(images.ndim == 4 and images.shape[1] == 3, "images.shape", tuple(images.shape), "(n, 3, H, W)")
    network, resize = InceptionV3W(str(INCEPTION.parent), download=False).to(device), build_resizer("clean")
    parts = []
    with torch.no_grad():
        for some in images.split(batch):
            sized = np.stack([resize(image) for image in some.permute(0, 2, 3, 1).numpy()])
            parts.append(network(torch.from_numpy(sized).permute(0, 3, 1, 2).to(device)).float().cpu())
    return torch.cat(parts)
