"""What the dense network is compared with: one pixel, one window."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cssd_geo.compute.dilation import dilate
from cssd_geo.network import CSSD

BATCH = 100
"""Windows a batch, as in common toolboxes."""


@torch.inference_mode()
def classify_bare_windows(network: CSSD, windows: Tensor) -> Tensor:
    """Classify the centres of windows that see nothing of their surroundings, in the cheapest way.

    What can be shared within a window is shared: the attention is computed once, not for each of nine shifts, and
    the spectral stage is one matrix product. At the edges of the window there are zeros.

    Args:
        network: a network with the default stages; it may pool as published.
        windows: (B, w, w, S) normalised.

    Returns:
        (B, K) logits of the main head.
    """
    config = network.config
    weight, bias = (part.to(windows) for part in network.spectral_affine())
    features = functional.linear(windows, weight, bias)  # (B,w,w,C)
    features = functional.gelu(features)
    attended = features * torch.sigmoid(network.refine.attention(features))
    padded = functional.pad(attended, (0, 0, 1, 1, 1, 1)).permute(0, 3, 1, 2)
    refined = torch.empty_like(attended).permute(0, 3, 1, 2)
    dilate(padded, torch.sigmoid(network.refine.element), refined)
    weight, bias = (part.to(windows) for part in network.spatial_affine())
    spatial = functional.gelu(functional.conv2d(refined, weight, bias, padding=1))
    logits = functional.conv2d(spatial, network.classifier.weight, network.classifier.bias, padding=1)
    unit = functional.normalize(features, dim=3).flatten(1, 2)  # (B,w*w,C)
    centre = unit[:, config.window // 2 * config.window + config.window // 2]
    cosine = (unit @ centre[:, :, None])[..., 0]
    sharpness = network.sharpness
    weights = cosine if sharpness is None else torch.exp(sharpness * (cosine - 1))  # (B,w*w)
    total = weights.new_full((), config.window**2) if sharpness is None else weights.sum(1, keepdim=True)
    return (logits.flatten(2) @ weights[:, :, None])[..., 0] / total


@torch.inference_mode()
def classify_as_toolboxes_do(network: CSSD, cube: NDArray[np.float32]) -> NDArray[np.int64]:
    """Slide a window over a cube (y, x, S) in Python, in batches of 100: the class index of every pixel, (y, x).

    Windows are cut on the CPU and classified where the network is. They have their halo, so that this equals the
    map to rounding.
    """
    halo, side, device = network.config.halo, network.config.receptive_field, network.refine.element.device
    height, width = cube.shape[:2]
    margins = ((halo.before, halo.after), (halo.before, halo.after))
    padded = np.pad(cube, (*margins, (0, 0)))
    seen = np.pad(np.ones((height, width), np.bool_), margins)
    found, windows, valid = [], [], []
    for y, x in np.ndindex(height, width):
        windows.append(padded[y : y + side, x : x + side])
        valid.append(seen[y : y + side, x : x + side])
        if len(windows) == BATCH or (y, x) == (height - 1, width - 1):
            batch = torch.from_numpy(np.stack(windows)).to(device).permute(0, 3, 1, 2)
            logits = network(batch, torch.from_numpy(np.stack(valid)).to(device)[:, None]).main
            found.append(logits.argmax(1).cpu().numpy())
            windows, valid = [], []
    return np.concatenate(found).reshape(height, width)
