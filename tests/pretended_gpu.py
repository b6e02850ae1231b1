"""A GPU for machines without one: the device `meta`, which computes here and tells what CUDA would not allow."""

from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

GPU = torch.device("meta")
CPU = torch.device("cpu")
_COPIES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}
_READING = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


class OnGpu(Tensor):
    """A tensor that says it lies on the GPU; what it holds is here."""

    held: Tensor

    def __new__(cls, held: Tensor) -> Self:
        layout: dict[str, Any] = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        with torch.inference_mode(mode=False):
            made: Self = Tensor._make_wrapper_subclass(cls, held.shape, dtype=held.dtype, device=GPU, **layout)
        made.held = held
        return made

    def tolist(self) -> Any:
        """Read back, which torch leaves to each class of tensors."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise AssertionError(f"{func} on a GPU that is no longer there")


class PretendedGpu(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is there, tensors can be brought to `GPU`; those of the CPU do not mix with them.

    Attributes:
        waits: operations that read from the GPU or copy to it, which no recording can hold.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waits: list[str] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """What to do with compiled code takes seconds to import; none is here."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            with self:  # in inference mode torch leaves it to us to take these apart
                return func.decompose(*args, **kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = {id(tensor.held): tensor for tensor in tensors if isinstance(tensor, OnGpu)}
        target = kwargs.get("device") or (GPU if there else CPU)
        if func in _COPIES:
            sides = [GPU if isinstance(tensor, OnGpu) else CPU for tensor in tensors]
            target = kwargs.get("device") or sides[0]
            crosses = len({target, *sides}) > 1
        else:
            crosses = bool(there) and _reads(func, args)
            _require_one_side(func, tensors, there)
        if crosses:
            self.waits.append(str(func))
        if "device" in kwargs:
            kwargs["device"] = CPU
        args, kwargs = tree_map_only(OnGpu, lambda tensor: tensor.held, (args, kwargs))
        with torch.inference_mode(mode=False), torch.no_grad():
            found = func(*args, **kwargs)
        if target == CPU:
            return found
        return tree_map_only(Tensor, lambda made: there[id(made)] if id(made) in there else OnGpu(made), found)


def _require_one_side(func: Any, tensors: list[Tensor], there: dict[int, OnGpu]) -> None:
    """As CUDA does; single numbers of the CPU are taken."""
    here = [tuple(tensor.shape) for tensor in tensors if tensor.dim() and not isinstance(tensor, OnGpu)]
    if there and here:
        raise RuntimeError(f"{func}: a tensor of the CPU, {here[0]}, among those of the GPU")


def _reads(func: Any, args: Any) -> bool:
    """Whether what comes, or how much, depends on values."""
    if "index" in func.name() and isinstance(args[1], list | tuple):
        return any(each is not None and each.dtype == torch.bool for each in args[1])
    return bool(_READING & set(func.tags))
