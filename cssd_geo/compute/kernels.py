"""What lies between the large products of the dense network, each in one pass over memory: compiled C++.

Torch takes several passes for each of these. Each function returns whether it did the work. It returns False, and
the caller uses torch, if the package was installed without a compiler, off the CPU, for types other than float32,
float64 and bfloat16, and for values that do not lie side by side. bfloat16 is computed in float32.

Products are here as well where what follows them can be done while they are in the processor's registers.

Shapes: r x x pixels, C features, K classes; those of the pooling are explained there.
"""

import ctypes
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor

from cssd_geo.machine import processors

if hasattr(os, "register_at_fork"):  # torch's threads do not survive a fork: the child would wait for them
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))

Then = Literal["plain", "gelu", "gate"]
"""What becomes of products with pixels: nothing more, their GELU, or the pixels times their sigmoid."""
_Values = tuple[Tensor | float, ...]
"""Arguments of a kernel; of a tensor it gets the address."""
_KINDS = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.bfloat16: "bfloat16",
    torch.uint8: "uint8",
    torch.int16: "int16",
    torch.uint16: "uint16",
}
LANES = 16
"""Columns of a panel, by which matrices are multiplied: as in `products.h`."""
STEP = 8
"""Columns of a block of centres that are pooled together; rows come in pairs: as in `kernels.cpp`."""
_TILED_ROWS = 32
"""Pixels whose bfloat16 a processor with tiles of its own multiplies together: as in `products.h`."""
_TILES = 24
"""Tiles of 2 x 2 results of a convolution computed together, for the room they take: as in `convolution.h`."""
_GENERATIONS = ("", "_avx2", "_avx512", "_avx512bf16", "_amx")
"""Of processors for which setup.py compiles the kernels, where they are x86."""
_POINTER, _SIZE, _NUMBER = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
_ARGUMENTS = {
    "gather": [_POINTER, *[_SIZE] * 3, _POINTER, *[_SIZE] * 3],
    "dilate": [_POINTER, _SIZE, _POINTER, _POINTER, *[_SIZE] * 4],
    "dilate_back": [*[_POINTER] * 6, *[_SIZE] * 4],
    "project_plain": [*[_POINTER] * 5, *[_SIZE] * 4],
    "project_gelu": [*[_POINTER] * 5, *[_SIZE] * 4],
    "project_gate": [*[_POINTER] * 5, *[_SIZE] * 4],
    "project_pieces_plain": [*[_POINTER] * 5, *[_SIZE] * 5, _POINTER],
    "project_pieces_gelu": [*[_POINTER] * 5, *[_SIZE] * 5, _POINTER],
    "project_pieces_gate": [*[_POINTER] * 5, *[_SIZE] * 5, _POINTER],
    "convolve_plain": [_POINTER, _SIZE, *[_POINTER] * 3, *[_SIZE] * 6, *[_POINTER] * 2],
    "convolve_gelu": [_POINTER, _SIZE, *[_POINTER] * 3, *[_SIZE] * 6, *[_POINTER] * 2],
    "write_units": [_POINTER, _SIZE, _POINTER, *[_SIZE] * 3, _NUMBER],
    "pool_units": [_POINTER, _SIZE, _SIZE, _POINTER, _POINTER, _SIZE, _POINTER, *[_SIZE] * 8, _POINTER],
    "pool_products": [_POINTER, _SIZE, _POINTER, _POINTER, _SIZE, _POINTER, *[_SIZE] * 8, _POINTER],
}


def load(generation: str = "") -> ctypes.CDLL | None:
    """The kernels compiled for a generation of processors; None where there are none for this machine."""
    found = find_spec(f"cssd_geo.compute._kernels{generation}")
    try:
        return None if found is None or found.origin is None else ctypes.CDLL(found.origin)
    except OSError:
        return None


def generations() -> tuple[str, ...]:
    """Those that this processor can run, the fastest first."""
    tells = getattr(load(), "generation", None)  # one that is left from an earlier version does not
    return () if tells is None else _GENERATIONS[tells() :: -1]


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


def gather(stored: Tensor, out: Tensor) -> bool:
    """Write stored values (B,r,x), which lie in memory in any way, as float32 into `out`, (r,x,B)."""
    if stored.device.type != "cpu" or out.dtype != torch.float32 or not _dense(out):
        return False

    def arguments(part: slice) -> _Values:
        rows = stored[:, part]
        return rows, *stored.stride(), out[part], _rows(part), stored.shape[2], stored.shape[0]

    return _run("gather", (stored.dtype,), arguments, len(out))


def project(rows: Tensor, panels: Tensor, bias: Tensor, out: Tensor, *, rest: Tensor | None, then: Then) -> bool:
    """Write weight @ pixel + bias into `out`, or what follows; the last of the products, as they are, into `rest`.

    Args:
        rows: (r,x,S).
        panels: of the weight, see `panels.of_matrix`, likewise `bias`.
        bias: see there.
        out: (r,x,C).
        rest: (r,x,K), float32 at least; None where there are no such products.
        then: what is to follow; for a gate, C is S.
    """
    (columns, features), depth = out.shape[1:], rows.shape[2]
    more = 0 if rest is None else rest.shape[2]
    in_pieces = (rows.dtype, panels.dtype) == (torch.float32, torch.bfloat16)
    if not (_dense(rows) and _dense(out) and (in_pieces or _alike(rows, panels))):
        return False
    if rest is not None and not (rest.dtype == _computed(rows) and _dense(rest)):
        return False

    def arguments(part: slice) -> _Values:
        last, count = 0 if rest is None else rest[part], _rows(part) * columns
        values = rows[part], panels, bias, out[part], last, count, depth, features, more
        return (*values, *_room_for_pieces(panels)) if in_pieces else values

    if in_pieces:
        return _run(f"project_pieces_{then}", (out.dtype,), arguments, len(out))
    return _run(f"project_{then}", (rows.dtype, out.dtype), arguments, len(out))


def _room_for_pieces(panels: Tensor) -> tuple[int, Tensor]:
    """Values of a piece, and room for the pieces of pixels that are multiplied with panels (n,P,.,LANES,2)."""
    padded = 2 * panels.shape[2]
    return padded, panels.new_zeros(_TILED_ROWS, panels.shape[1], padded)


def convolve(
    values: Tensor, panels: Tensor, bias: Tensor, out: Tensor, *, at: tuple[int, int], then: Then
) -> bool:
    """Write the 3x3 convolution of (r+2,x+2,C), without padding, and what follows into `out`, (r,x,D).

    Args:
        values: what to convolve.
        panels: of the weight, see `panels.of_convolution`.
        bias: (n,LANES), float32 at least: see `panels.in_panels`.
        out: where to.
        at: row and column of the first result in its scene. It is computed in tiles of 2 x 2, and rounding depends
            on its place in one: so that it is the same whatever else is computed with it, tiles lie where they lie
            in the scene.
        then: what is to follow; no gate.
    """
    (columns, filters), features = out.shape[1:], values.shape[2]
    if not (_alike(values, panels, out) and _dense(values, beyond=1) and _dense(panels) and _dense(out)):
        return False
    if len(panels) != matrices(out.dtype):  # for another processor
        return False

    def arguments(part: slice) -> _Values:
        sizes = _rows(part), columns, features, filters, (at[0] + part.start) % 2, at[1] % 2
        room = bias.new_empty(_TILES * 16 * (features + bias.numel()) + 4 * bias.numel())
        above, below, blank = values[part.start :], out[part], out.new_zeros(features)
        return above, values.stride(0), panels, bias, below, *sizes, blank, room

    return _run(f"convolve_{then}", (out.dtype,), arguments, len(out))


def write_units(values: Tensor, out: Tensor, *, length: float) -> bool:
    """Write (r,x,C), brought to one length, into `out`; zero stays zero."""
    columns, features = out.shape[1:]
    if not (_alike(values, out) and _dense(values, beyond=1) and _dense(out)):
        return False

    def arguments(part: slice) -> _Values:
        return values[part], values.stride(0), out[part], _rows(part), columns, features, length

    return _run("write_units", (out.dtype,), arguments, len(out))


def multiplies(name: str, kind: torch.dtype, *, depth: int) -> bool:
    """Whether a kernel that multiplies values of this type, and adds up so many, is there."""
    return in_pairs(kind, depth) and has(name, kind)


def in_pairs(kind: torch.dtype, depth: int) -> bool:
    """Whether so many values can be multiplied: processors multiply two bfloat16 at a time."""
    return kind != torch.bfloat16 or depth % 2 == 0


def has(name: str, *kinds: torch.dtype) -> bool:
    """Whether this kernel is there for values of these types."""
    return _kernel(name, kinds) is not None


def matrices(kind: torch.dtype) -> int:
    """Of how many the weight of a convolution of this type is made: see `convolution.h`. 0: there is none."""
    count = _kernel("matrices", (kind,))
    return 0 if count is None else int(count())


def pool_units(units: Tensor, pattern: Tensor, votes: Tensor, out: Tensor, *, sharp: bool) -> bool:
    """Write the weighted mean of the votes around each centre of a row of blocks.

    Args:
        units: (r+w-1,x+w-1,C). The product of a neighbour and a centre is the neighbour's weight, if that is sharp
            exp(product + pattern), else product * pattern.
        pattern: (n,m,LANES), of the type of `out`: for each pair of rows of centres and each of their m neighbours
            what is to be added, or multiplied with, for each centre. Added, less than -1e30 makes a weight zero.
        votes: (r+w-1,x+w-1,K+1), votes and a last 1, all zero where there is no neighbour.
        out: (r,x,K), float32 at least.
        sharp: see `units`. If so, sums are divided by the sum of the weights, else by the number of neighbours.
    """
    if not (_dense(units) and _votes_fit(units, pattern, votes, out)):
        return False
    more = units.shape[2] * LANES

    def arguments(part: slice) -> _Values:
        return units, units.stride(0), units.shape[2], *_pooled(pattern, votes, out, part, sharp=sharp, more=more)

    return _run("pool_units", (units.dtype,), arguments, -(-out.shape[1] // STEP))


def pool_products(products: Tensor, pattern: Tensor, votes: Tensor, out: Tensor, *, sharp: bool) -> bool:
    """Do as `pool_units`, from products that are there: (r+w-1,n,J,b), of J blocks of b centres; b = r * STEP."""
    if not _votes_fit(products, pattern, votes, out):
        return False
    products, blocks = products.contiguous(), products.shape[2]

    def arguments(part: slice) -> _Values:
        return products, blocks, *_pooled(pattern, votes, out, part, sharp=sharp)

    return _run("pool_products", (products.dtype,), arguments, blocks)


def _votes_fit(weights: Tensor, pattern: Tensor, votes: Tensor, out: Tensor) -> bool:
    types = _alike(weights, votes) and pattern.dtype == out.dtype == _computed(votes)
    return types and _dense(votes, beyond=1) and _dense(out) and _dense(pattern)


def _pooled(pattern: Tensor, votes: Tensor, out: Tensor, blocks: slice, *, sharp: bool, more: int = 0) -> _Values:
    """What both ways of pooling are told of what they pool, and room for it: `more` in values of `out`."""
    (rows, columns, classes), window = out.shape, len(votes) - len(out) + 1
    room = out.new_empty(more + pattern.shape[1] * (LANES + classes + 1))
    sizes = rows, votes.shape[1], columns, classes, window, sharp, blocks.start, blocks.stop
    return pattern, votes, votes.stride(0), out, *sizes, room


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
    kernel = _kernel(name, kinds)
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


def _kernel(name: str, kinds: tuple[torch.dtype, ...]) -> Any:
    """That for values of these types; None where it is not there."""
    return getattr(_LIBRARY, "_".join([name, *(_KINDS.get(kind, "other") for kind in kinds)]), None)


@cache
def _threads(_process: int) -> ThreadPoolExecutor:
    """Threads of this process: a process that is forked does not get those of its parent."""
    return ThreadPoolExecutor(processors(), "cssd-geo-kernels")
