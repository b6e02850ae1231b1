"""The one part of the package that is compiled. Where that fails, torch does the same, more slowly."""

from setuptools import Extension, setup

FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-ffinite-math-only", "-fno-signed-zeros"]
"""What lets a compiler compute many values at a time. Only finite values get there."""

setup(
    ext_modules=[
        Extension(
            "cssd_geo.compute._kernels",
            ["cssd_geo/compute/kernels.cpp"],
            language="c++",
            extra_compile_args=[*FLAGS, "-fno-exceptions"],
            optional=True,
        )
    ]
)
