"""Where to compute, and in which precision: by name, or as the machine has it."""

from pathlib import Path

import torch

from cssd_geo.errors import InputError
from cssd_geo.options import DEVICES, PRECISIONS, require_choice

_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
"""Names in /proc/cpuinfo for hardware that multiplies bfloat16, and for which the loops do. On ARM they do not."""


def choose_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is a GPU where torch sees one, of several the current one.

    Raises:
        InputError: if the name is unknown, or CUDA is asked for and not there.
    """
    require_choice("device", name, DEVICES)
    if name == "cpu":
        return torch.device("cpu")
    missing = _missing_gpu()
    if not missing:
        return torch.device("cuda", torch.cuda.current_device())  # by number, as each thread has a current one
    if name == "cuda":
        raise InputError(f"device cuda was asked for, but {missing}: use --device cpu or auto")
    return torch.device("cpu")


def _missing_gpu() -> str:
    """Why there is no GPU; empty where there is one."""
    if not torch.cuda.is_available():
        return "torch sees no CUDA GPU"
    if torch.cuda._is_in_bad_fork():  # noqa: SLF001 - nothing else tells
        return "a process that is forked off cannot use the GPU of its parent"
    return ""


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the precision of that name; `auto` is bfloat16 where the device multiplies it in hardware.

    Raises:
        InputError: if the name is unknown.
    """
    require_choice("precision", name, PRECISIONS)
    if name == "auto":
        name = "bfloat16" if _has_bfloat16(device) else "float32"
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def precision_name(precision: torch.dtype) -> str:
    """Return the name under which `choose_precision` knows it."""
    return str(precision).removeprefix("torch.")


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(_BFLOAT16_FLAGS & cpu_flags())


def cpu_flags(path: Path = Path("/proc/cpuinfo")) -> set[str]:
    """What the processor says that it can do; nothing where the system does not tell."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return set()
    return set(next((line.split(":")[1] for line in lines if line.startswith(("flags", "Features"))), "").split())
