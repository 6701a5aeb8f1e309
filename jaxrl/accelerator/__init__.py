"""Compile for a GPU or TPU that is absent, and see what a program would launch and hold there.

    from jaxrl import accelerator

    program = accelerator.compile_for(training, (jax.random.key(0),), "h100")
    print(program.launches)      # kernels in each loop, by kind, with their source lines
    print(program.buffers)       # the large arrays
    print(accelerator.roofline(program.launches, program.target))

The compilers come with the extras `cuda13` and `tpu`; nothing needs or touches a device.
"""

from jaxrl.accelerator.buffers import Buffer, Buffers
from jaxrl.accelerator.compile import Program, TargetError, compile_for
from jaxrl.accelerator.launches import Kernel, Launches, Loop, launches
from jaxrl.accelerator.roofline import Roofline, roofline
from jaxrl.accelerator.targets import (
    CompilerMissingError,
    Target,
    missing_compiler,
    target,
    target_names,
    target_of,
)

__all__ = [
    "Buffer",
    "Buffers",
    "CompilerMissingError",
    "Kernel",
    "Launches",
    "Loop",
    "Program",
    "Roofline",
    "Target",
    "TargetError",
    "compile_for",
    "launches",
    "missing_compiler",
    "roofline",
    "target",
    "target_names",
    "target_of",
]
