"""Work on a GPU that is recorded once and then started as a whole.

Each step of the network is a launch, for which Python takes its turn among the threads that read and write: with
eight of them hundreds of launches a tile took twice as long as the GPU did. A recording is one.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Results = Mapping[str, Tensor]


class Recorded:
    """A function of tensors that are always alike, recorded. Keeps the memory of all that it computes."""

    def __init__(self, work: Callable[..., Results], *examples: Tensor) -> None:
        """Record.

        Args:
            work: the function. It must not wait for what the GPU computes, nor depend on it.
            examples: what it takes: tensors of the same type, size and order in memory, on the same device.

        Raises:
            RuntimeError: if the GPU's memory does not suffice, or the function cannot be recorded.
        """
        self._inputs = [example.clone() for example in examples]
        self._start, self._results = _record(work, self._inputs)

    def takes(self, *values: Tensor) -> bool:
        """Whether tensors are as the examples were."""
        return all(map(_alike, self._inputs, values))

    def __call__(self, *values: Tensor) -> Results:
        """Return what the function makes of these; the next call writes over it."""
        for mine, value in zip(self._inputs, values, strict=True):
            mine.copy_(value)
        self._start()
        return self._results


def _record(work: Callable[..., Results], inputs: list[Tensor]) -> tuple[Callable[[], object], Results]:
    """Return what starts a recording, and the results that it writes. Without a GPU the function is called."""
    if inputs[0].is_cuda:
        return _record_on_gpu(work, inputs)
    results = dict(work(*inputs))
    return lambda: results.update(work(*inputs)), results


def _record_on_gpu(work: Callable[..., Results], inputs: list[Tensor]) -> tuple[Callable[[], object], Results]:
    device = inputs[0].device
    now, aside = torch.cuda.current_stream(device), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    aside.wait_stream(now)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(aside):
        work(*inputs)  # libraries choose their kernels and take memory at the first time, which is no part of it
        torch.cuda.empty_cache()  # a recording has memory of its own
        graph.capture_begin(capture_error_mode="thread_local")  # other threads may copy meanwhile
        try:
            results = dict(work(*inputs))
        finally:
            graph.capture_end()
    now.wait_stream(aside)
    return graph.replay, results


def _alike(one: Tensor, other: Tensor) -> bool:
    same = (one.shape, one.stride(), one.dtype, one.device)
    return same == (other.shape, other.stride(), other.dtype, other.device)
