"""The network for a panel of a scene in one call of compiled C++, `flow.h`: its weights laid out, its memory."""

import ctypes
from typing import Any, ClassVar

import torch
from torch import Tensor

from cssd_geo.compute import kernels, panels
from cssd_geo.compute.folded import Affine, Folded
from cssd_geo.compute.rows import Buffer

_STORED = (
    *(torch.uint8, torch.int8, torch.uint16, torch.int16, torch.uint32, torch.int32, torch.uint64, torch.int64),
    *(torch.float32, torch.float64),
)
"""Types of stored values, in the order of `stages.h`."""
_LINE = 64
"""Bytes that processors fetch at a time; memory begins at a multiple."""
_SIZE, _POINTER = ctypes.c_int64, ctypes.c_void_p


def _fields(kind: type, names: str) -> list[tuple[str, type]]:
    return [(name, kind) for name in names.split()]


class _Network(ctypes.Structure):
    """As in `flow.h`."""

    _fields_: ClassVar[Any] = [
        *_fields(_SIZE, "bands features filters classes window activated sharp"),
        ("sharpness", ctypes.c_double),
        *_fields(_POINTER, "spectral spectral_bias teacher teacher_bias attention attention_bias element"),
        *_fields(_POINTER, "spatial spatial_bias classifier classifier_bias"),
    ]


class _Panel(ctypes.Structure):
    """As in `flow.h`."""

    _fields_: ClassVar[Any] = [
        ("stored", _POINTER),
        *_fields(_SIZE, "kind band line column"),
        ("valid", _POINTER),
        *_fields(_SIZE, "valid_line rows columns top left"),
        *_fields(_POINTER, "main spectral"),
    ]


class Memory:
    """What one call at a time writes to, used by one after the other."""

    def __init__(self) -> None:
        self.main, self.spectral, self.room = Buffer(), Buffer(), Buffer()


class Flow:
    """A network on this processor."""

    memory = Memory

    def __init__(self, folded: Folded, dtype: torch.dtype) -> None:
        """Lay out what is multiplied with; `dtype` is that of all but the first product and of sums."""
        self._room, self._classify = (kernels.function(name, dtype) for name in ("room", "classify"))
        self._room.restype, self._classify.restype = _SIZE, None  # else ctypes takes them for 32 bits
        self._computed = torch.promote_types(dtype, torch.float32)
        self._bands, self._halo, self._classes = folded.bands, folded.halo.total, folded.classes
        sharp = folded.sharpness is not None
        self._tensors = {
            **_matrix("spectral", folded.spectral, self._computed, own=folded.features),
            **({} if folded.teacher is None else _matrix("teacher", folded.teacher, dtype)),
            **_matrix("attention", folded.attention, dtype),
            "element": folded.element.to(self._computed).contiguous(),
            **_convolution("spatial", folded.spatial, dtype),
            **_convolution("classifier", folded.classifier, dtype),
        }
        self._network = _Network(
            *(folded.bands, folded.features, folded.filters, folded.classes, folded.window),
            activated=folded.activation,
            sharp=sharp,
            sharpness=folded.sharpness if sharp else 0.0,
            **{name: tensor.data_ptr() for name, tensor in self._tensors.items()},
        )

    @staticmethod
    def computes(folded: Folded, dtype: torch.dtype) -> bool:
        """Whether this processor's compiled loops do; they multiply bfloat16 in pairs."""
        depths = folded.features, folded.filters
        return kernels.compiled() and all(panels.in_pairs(dtype, depth) for depth in depths)

    def working_bytes(self, columns: int) -> int:
        """Memory that a call takes for a panel of so many columns, its halo included, beside its results."""
        panel = _Panel(rows=self._halo + 1, columns=columns)
        return int(self._room(ctypes.byref(self._network), ctypes.byref(panel))) + _LINE

    def __call__(
        self, stored: Tensor, valid: Tensor, memory: Memory, at: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Classify a panel.

        Args:
            stored: (S,y,x) stored values of any type and layout.
            valid: (y,x) bool.
            memory: where results are until the next call.
            at: row and column of the first pixel in the scene.

        Returns:
            Logits of both heads, (h,v,K).

        Raises:
            ValueError: if sizes do not fit each other, which compiled code trusts.
        """
        if stored.shape != (self._bands, *valid.shape) or min(valid.shape) <= self._halo:
            raise ValueError(f"{tuple(stored.shape)} values, {tuple(valid.shape)} valid, {self._bands} bands")
        if stored.dtype not in _STORED:
            stored = stored.to(self._computed)
        valid = valid if valid.stride(1) == 1 else valid.contiguous()
        rows, columns = valid.shape
        room = memory.room.take(valid.new_empty(0, dtype=torch.uint8), (self.working_bytes(columns),))
        heads = [
            each.take(self._tensors["spectral_bias"], (rows - self._halo, columns - self._halo, self._classes))
            for each in (memory.main, memory.spectral)
        ]
        panel = _Panel(
            *(stored.data_ptr(), _STORED.index(stored.dtype), *stored.stride()),
            *(valid.data_ptr(), valid.stride(0), rows, columns, *at),
            *(head.data_ptr() for head in heads),
        )
        start = -(-room.data_ptr() // _LINE) * _LINE
        self._classify(ctypes.byref(self._network), ctypes.byref(panel), _POINTER(start))
        return heads[0], heads[1]


def _matrix(name: str, affine: Affine, dtype: torch.dtype, own: int | None = None) -> dict[str, Tensor]:
    """Weight and bias of products with pixels of a type, as `stages.h` takes them; `own` of them come first."""
    own, computed = own or len(affine.bias), torch.promote_types(dtype, torch.float32)
    bias = torch.cat([panels.in_panels(part).flatten() for part in affine.bias.tensor_split([own])])
    return {name: panels.of_matrix(affine.weight.to(dtype), own), f"{name}_bias": bias.to(computed)}


def _convolution(name: str, affine: Affine, dtype: torch.dtype) -> dict[str, Tensor]:
    bias = panels.in_panels(affine.bias).to(torch.promote_types(dtype, torch.float32))
    return {name: panels.of_convolution(affine.weight, dtype), f"{name}_bias": bias}
