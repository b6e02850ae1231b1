"""Fit a network's weights to training windows; the centre's pure spectrum teaches the classifier of the window."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from cssd_geo.compute.projection import forbid_tf32
from cssd_geo.errors import InputError
from cssd_geo.learning.windows import TrainingWindows
from cssd_geo.network import CSSD, Logits
from cssd_geo.options import TrainingOptions


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One pass over the training windows, for whoever shows progress."""

    number: int
    """From 1."""
    epochs: int
    loss: float
    """Mean over the epoch."""
    accuracy: float
    """Of the main head on the windows as drawn, 0..1: a sign of life, not an accuracy of the map."""
    windows: int
    run: int = 1
    """Which of those side by side, from 1: the first one on all labels, and one for each fold."""
    runs: int = 1


def fit(
    network: CSSD,
    windows: TrainingWindows,
    classes: Tensor,
    *,
    options: TrainingOptions,
    device: torch.device,
    on_epoch: Callable[[Epoch], None] | None,
) -> None:
    """Train in place; the network comes back to the CPU, in evaluation mode.

    Args:
        network: with random weights.
        windows: of the training pixels.
        classes: (n,) class index of each window's centre.
        options: how to train.
        device: where.
        on_epoch: called after each epoch.

    Raises:
        InputError: if the loss is no longer finite: the learning rate is too high.
    """
    forbid_tf32(device, torch.float32)
    network.to(device).train()
    random = torch.Generator("cpu").manual_seed(options.seed)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
    )
    steps = options.epochs * len(_batches(_draw(windows, classes, options, random), options.batch_size))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _pace(step, steps))
    for number in range(1, options.epochs + 1):
        loss, right = 0.0, 0
        drawn = _draw(windows, classes, options, random)
        for chosen in _batches(drawn, options.batch_size):
            pixels, lookup = windows.augmented(chosen, device, random, context_swap=options.context_swap)
            truth = classes[chosen].to(device)
            logits = network.classify_windows(pixels, lookup)
            step_loss = distillation_loss(
                logits,
                truth,
                epsilon=options.epsilon,
                temperature=options.temperature,
                spectral_weight=options.spectral_weight,
            )
            optimiser.zero_grad(set_to_none=True)
            step_loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            loss += float(step_loss.detach()) * len(chosen)
            right += int((logits.main.argmax(1) == truth).sum())
        if not math.isfinite(loss) or not _is_finite(network):
            raise InputError(
                f"the training diverged in epoch {number} (loss {loss}): lower the learning rate, which is "
                f"{options.learning_rate:g}"
            )
        if on_epoch is not None:
            n = len(drawn)
            on_epoch(Epoch(number=number, epochs=options.epochs, windows=n, loss=loss / n, accuracy=right / n))
    network.eval().cpu()  # a model is for any machine, wherever it was trained


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


def _is_finite(network: CSSD) -> bool:
    """Whether all weights are: the last step of an epoch may break them after its loss was found."""
    return all(bool(torch.isfinite(weight).all()) for weight in network.parameters())


def _batches(drawn: Tensor, size: int) -> list[Tensor]:
    """Batches of that many windows. A single last one joins those before: alone it may have too few pixels."""
    parts = list(torch.split(drawn, size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def _pace(step: int, steps: int) -> float:
    """Share of the learning rate at a step from 0: up in a straight line for a tenth, down as a cosine."""
    rise = max(1, steps // 10)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def _draw(windows: TrainingWindows, classes: Tensor, options: TrainingOptions, random: torch.Generator) -> Tensor:
    """At most `windows_per_class` windows of each class whose centre is valid, drawn and shuffled."""
    order = torch.randperm(len(classes), generator=random, device="cpu")
    order = order[windows.centre_rows[order] > 0]
    drawn = [order[classes[order] == k][: options.windows_per_class] for k in range(int(classes.max()) + 1)]
    together = torch.cat(drawn)
    return together[torch.randperm(len(together), generator=random, device="cpu")]
