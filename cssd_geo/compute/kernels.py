"""What lies between the products of the dense network, each in one pass over memory: `kernels.cpp`, compiled.

Torch takes several passes for each of these. Each function returns whether it did the work. It returns False, and
the caller uses torch, if the package was installed without a compiler, off the CPU, for types other than float32,
float64 and bfloat16, and for values that do not lie side by side. bfloat16 is computed in float32.

Shapes: r x x pixels, C features, K classes; those of the pooling are explained there.
"""

import ctypes
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from cssd_geo.machine import processors

if hasattr(os, "register_at_fork"):  # torch's threads do not survive a fork: the child would wait for them
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))

MOST_CENTRES = 32
"""Centres of a block that is pooled, at most."""

_Values = tuple[Tensor | float, ...]
"""Arguments of a kernel; of a tensor it gets the address."""
_KINDS = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16"}
_SUMS = 5
"""Sums for each centre that the pooling needs room for, beside the weights."""
_POINTER, _SIZE, _NUMBER = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
_ARGUMENTS = {
    "gelu": [_POINTER, _SIZE, _SIZE, _POINTER, *[_SIZE] * 3],
    "gate": [*[_POINTER] * 3, *[_SIZE] * 2],
    "dilate": [_POINTER, _SIZE, _POINTER, _POINTER, *[_SIZE] * 4],
    "dilate_back": [*[_POINTER] * 6, *[_SIZE] * 4],
    "write_units": [_POINTER, _SIZE, _POINTER, *[_SIZE] * 6, _NUMBER],
    "pool": [*[_POINTER] * 3, _SIZE, _POINTER, *[_SIZE] * 10, _POINTER],
}


def _loaded() -> ctypes.CDLL | None:
    """The compiled kernels; None where there are none for this machine."""
    found = find_spec("cssd_geo.compute._kernels")
    try:
        return None if found is None or found.origin is None else ctypes.CDLL(found.origin)
    except OSError:
        return None


_LIBRARY = _loaded()


def compiled() -> bool:
    """Whether there are compiled kernels here."""
    return _LIBRARY is not None


def gelu(values: Tensor, out: Tensor) -> bool:
    """Write the GELU of (r,x,C) into `out`, which may have fewer digits."""
    columns, features = out.shape[1:]
    if not (_dense(values, beyond=2) and _dense(out)):
        return False

    def arguments(part: slice) -> _Values:
        return values[part], values.stride(0), values.stride(1), out[part], _rows(part), columns, features

    return _run("gelu", (values.dtype, out.dtype), arguments, len(out))


def gate(values: Tensor, logits: Tensor, out: Tensor) -> bool:
    """Write values * sigmoid(logits) of (r,x,C) into `out`."""
    columns, features = out.shape[1:]
    if not (_alike(values, logits, out) and _dense(values) and _dense(logits) and _dense(out)):
        return False

    def arguments(part: slice) -> _Values:
        return values[part], logits[part], out[part], _rows(part) * columns, features

    return _run("gate", (out.dtype,), arguments, len(out))


def dilate(values: Tensor, element: Tensor, out: Tensor) -> bool:
    """Write the maximum over a 3x3 neighbourhood of element * (r,x,C) into `out`, (r-2,x-2,C)."""
    columns, features = out.shape[1:]
    if not (_alike(values, out) and _dense(values, beyond=1) and _dense(out, beyond=1)):
        return False
    weights = element.to(_computed(out)).contiguous()

    def arguments(part: slice) -> _Values:
        above, below = values[part.start :], out[part]
        return above, values.stride(0), weights, below, out.stride(0), _rows(part), columns, features

    return _run("dilate", (out.dtype,), arguments, len(out))


def dilate_back(
    values: Tensor, best: Tensor, gradients: Tensor, to_values: Tensor, *, element: Tensor, to_element: Tensor
) -> bool:
    """Add up what flows back through `dilate` to several images of (r+2,x+2,C).

    Args:
        values: (B,r+2,x+2,C).
        best: (B,r,x,C), what `values` were dilated to.
        gradients: of `best`.
        to_values: zeros, to which the gradients of `values` are added.
        element: (3,3).
        to_element: (B,9,C) of zeros; what is added sums up over B and C to the gradients of `element`.
    """
    element = element.contiguous()
    every = (values, best, gradients, to_values, element, to_element)
    if not (_alike(*every) and all(_dense(tensor) for tensor in every)):
        return False

    def arguments(part: slice) -> _Values:
        images = values[part], best[part], gradients[part], to_values[part]
        return *images, element, to_element[part], _rows(part), *best.shape[1:]

    return _run("dilate_back", (values.dtype,), arguments, len(values))


def write_units(values: Tensor, out: Tensor, *, step: int, length: float) -> bool:
    """Write (r,x,C), brought to one length, into groups of n columns (r,n,J,C), one every `step` columns."""
    (columns, features), (reach, blocks) = values.shape[1:], out.shape[1:3]
    if not (_alike(values, out) and _dense(values, beyond=1) and _dense(out)):
        return False

    def arguments(part: slice) -> _Values:
        sizes = _rows(part), columns, features, blocks, reach, step
        return values[part], values.stride(0), out[part], *sizes, length

    return _run("write_units", (out.dtype,), arguments, len(out))


def pool(products: Tensor, pattern: Tensor, votes: Tensor, out: Tensor, *, step: int) -> bool:
    """Write the weighted mean of the votes around each centre of a row of blocks.

    Args:
        products: (r+w-1,n,J,b); exp(product + pattern) is the weight of a neighbour for a centre.
        pattern: (m,b), of the type of `out`.
        votes: (r+w-1,x+w-1,K+1), votes and a last 1, all zero where there is no neighbour.
        out: (r,x,K), float32 at least.
        step: columns of a block; b = r * step, `MOST_CENTRES` at most.
    """
    (reach_rows, reach, blocks, centres), (rows, columns, classes) = products.shape, out.shape
    if not (_alike(products, votes) and _dense(votes, beyond=1) and _dense(out)):
        return False
    products = products.contiguous()
    if centres > MOST_CENTRES or not pattern.dtype == out.dtype == _computed(votes):
        return False

    def arguments(part: slice) -> _Values:
        sizes = rows, votes.shape[1], columns, classes, part.start, part.stop, blocks, reach_rows, reach, step
        room = out.new_empty(len(pattern) + _SUMS, centres)
        return products, pattern, votes, votes.stride(0), out, *sizes, room

    return _run("pool", (votes.dtype,), arguments, blocks)


def _alike(*tensors: Tensor) -> bool:
    """Whether all are of one type."""
    return all(tensor.dtype == tensors[0].dtype for tensor in tensors)


def _dense(tensor: Tensor, *, beyond: int = 0) -> bool:
    """Whether values lie side by side in the processor's memory, but for the distance along the first axes."""
    return tensor.device.type == "cpu" and tensor[(slice(1),) * beyond].is_contiguous()


def _computed(values: Tensor) -> torch.dtype:
    """In which type these are computed."""
    return torch.promote_types(values.dtype, torch.float32)


def _rows(part: slice) -> int:
    return int(part.stop - part.start)


def _run(name: str, kinds: tuple[torch.dtype, ...], arguments: Callable[[slice], _Values], count: int) -> bool:
    """Run a kernel for a count of rows or blocks, parts of them on each of torch's threads."""
    kernel: Any = getattr(_LIBRARY, "_".join([name, *(_KINDS.get(kind, "other") for kind in kinds)]), None)
    if kernel is None:
        return False
    kernel.argtypes, kernel.restype = _ARGUMENTS[name], None

    def work(part: slice) -> None:
        values = arguments(part)  # tensors that have to live until the kernel is done
        kernel(*(value.data_ptr() if isinstance(value, Tensor) else value for value in values))

    at_once = max(1, min(torch.get_num_threads(), count))
    each = max(1, -(-count // at_once))
    parts = [slice(start, min(start + each, count)) for start in range(0, count, each)]
    if len(parts) > 1:
        deque(_threads(os.getpid()).map(work, parts), maxlen=0)
    else:
        work(slice(0, count))
    return True


@cache
def _threads(_process: int) -> ThreadPoolExecutor:
    """Threads of this process: a process that is forked does not get those of its parent."""
    return ThreadPoolExecutor(processors(), "cssd-geo-kernels")
