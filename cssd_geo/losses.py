"""The loss of CSSD: the centre's pure spectrum teaches the classifier of the window."""

import torch
from torch import Tensor
from torch.nn import functional

from cssd_geo.network import Logits


def distillation_loss(
    logits: Logits, target: Tensor, *, epsilon: float, temperature: float, spectral_weight: float
) -> Tensor:
    """Cross-entropy of both heads against a target softened by the spectral head.

    target' = epsilon * softmax(spectral / temperature) + (1 - epsilon) * onehot(target), without gradient;
    loss = CE(target', main) + spectral_weight * CE(target', spectral).

    Args:
        logits: main and spectral, each (B, K).
        target: (B,) class indexes.
        epsilon: share of the teacher in the target; 0 switches distillation off.
        temperature: softness of the teacher.
        spectral_weight: lambda, the weight of the teacher's own loss.
    """
    onehot = functional.one_hot(target, logits.main.shape[1]).to(logits.main.dtype)
    with torch.no_grad():
        teacher = functional.softmax(logits.spectral / temperature, dim=1)
        soft = epsilon * teacher + (1 - epsilon) * onehot
    main = functional.cross_entropy(logits.main, soft)
    return main + spectral_weight * functional.cross_entropy(logits.spectral, soft)
