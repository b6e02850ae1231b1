"""The compiled loops: the library for this processor, and those that training uses.

`flow.py` calls what classifies. The functions here return whether they did the work: not where the package was
installed without a compiler, off the CPU, for types other than float32, float64 and bfloat16, or for values that
do not lie side by side. Then the caller uses torch, which takes several passes over memory. bfloat16 is computed
in float32.

Shapes: r x x pixels, C features.
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

_Values = tuple[Tensor | float, ...]
"""Arguments of a kernel; of a tensor it gets the address."""
_KINDS = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16"}
_GENERATIONS = ("", "_avx2", "_avx512", "_avx512bf16", "_amx")
"""Of processors for which setup.py compiles the kernels, where they are x86."""
_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_int64
_ARGUMENTS = {
    "dilate": [_POINTER, _SIZE, _POINTER, _POINTER, *[_SIZE] * 4],
    "dilate_back": [*[_POINTER] * 6, *[_SIZE] * 4],
}


def load(generation: str = "") -> ctypes.CDLL | None:
    """The kernels compiled for a generation of processors; None where there are none for this machine."""
    found = find_spec(f"cssd_geo.compute._kernels{generation}")
    try:
        library = None if found is None or found.origin is None else ctypes.CDLL(found.origin)
    except OSError:
        return None
    left_over = not hasattr(library, "classify_float32")  # from an earlier version
    return None if left_over else library


def generations() -> tuple[str, ...]:
    """Those that this processor can run, the fastest first."""
    plain = load()
    return () if plain is None else _GENERATIONS[plain.generation() :: -1]


_USED, _LIBRARY = next(
    ((each, library) for each in generations() if (library := load(each)) is not None), ("_none", None)
)


def compiled() -> bool:
    """Whether there are compiled kernels here."""
    return _LIBRARY is not None


def used() -> str:
    """For which generation of processors the kernels are that are used here; "none" where there are none."""
    return _USED.lstrip("_") or "any"


def dilate(values: Tensor, element: Tensor, out: Tensor) -> bool:
    """Write the maximum over a 3x3 neighbourhood of element * (r,x,C) into `out`, (r-2,x-2,C)."""
    columns, features = out.shape[1:]
    if not (_alike(values, out) and _dense(values, beyond=1) and _dense(out, beyond=1)):
        return False
    weights = element.to(_computed(out)).contiguous()

    def arguments(part: slice) -> _Values:
        above, below = values[part.start :], out[part]
        return above, values.stride(0), weights, below, out.stride(0), _rows(part), columns, features

    return _run("dilate", out.dtype, arguments, len(out))


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

    return _run("dilate_back", values.dtype, arguments, len(values))


def matrices(kind: torch.dtype) -> int:
    """Of how many the weight of a convolution of this type is made: see `convolution.h`."""
    return int(function("matrices", kind)())


def pieces(kind: torch.dtype) -> int:
    """Of how many pieces a weight is that values of this type are multiplied with: see `products.h`."""
    return int(function("pieces", kind)())


def function(name: str, kind: torch.dtype) -> Any:
    """A compiled function for values of this type; None where it is not there."""
    return getattr(_LIBRARY, f"{name}_{_KINDS.get(kind, 'other')}", None)


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


def _run(name: str, kind: torch.dtype, arguments: Callable[[slice], _Values], count: int) -> bool:
    """Run a kernel for a count of rows or images, parts of them on each of torch's threads."""
    kernel = function(name, kind)
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
