"""The one part of the package that is compiled. Where that fails, torch does the same, more slowly."""

import platform

from setuptools import Extension, setup

FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-ffinite-math-only", "-fno-signed-zeros"]
"""What lets a compiler compute many values at a time. Only finite values get there."""
AVX2 = ["-mavx2", "-mfma"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
BFLOAT16 = [*AVX512, "-mavx512bf16"]
AMX = [*BFLOAT16, "-mamx-tile", "-mamx-bf16"]
GENERATIONS = {"": [], "_avx2": AVX2, "_avx512": AVX512, "_avx512bf16": BFLOAT16, "_amx": AMX}
"""Of x86; compute/kernels.py takes the last that the processor can run. Others have one."""
FOLDER = "cssd_geo/compute"

setup(
    ext_modules=[
        Extension(
            f"cssd_geo.compute._kernels{name}",
            [f"{FOLDER}/kernels.cpp"],
            depends=[
                f"{FOLDER}/{name}.h"
                for name in ("numbers", "products", "stages", "convolution", "pooling", "flow")
            ],
            language="c++",
            extra_compile_args=["-std=gnu++17", *FLAGS, *flags, "-fno-exceptions"],
            optional=True,
        )
        for name, flags in GENERATIONS.items()
        if not flags or platform.machine() in {"x86_64", "AMD64"}
    ]
)
