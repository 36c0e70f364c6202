"""What the bits rest on besides data, params and code: pinned here, before NumPy and TensorFlow load.

Another thread count inside an op, or another instruction set, makes other kernels, other orders of addition and so
other bits. `pin` runs when the package ``stages`` or ``operations`` is imported, that is, before anything else there;
child processes, the TFF worker among them, inherit what it sets.
"""

import os
from pathlib import Path

from fedpipe.errors import PipelineError

# Each is set whatever the user's shell says.
PINNED = {
    # One thread an op: threads go to clients, and a reduction has one order.
    "TF_NUM_INTRAOP_THREADS": "1",
    # oneDNN is TensorFlow's default on some CPUs only (those with AVX-512 VNNI and the like).
    "TF_ENABLE_ONEDNN_OPTS": "1",
    # oneDNN picks its kernels by instruction set; nearly every x86-64 CPU since 2015 has this one.
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    # float32 means float32, not bfloat16 inside.
    "ONEDNN_DEFAULT_FPMATH_MODE": "STRICT",
    # NumPy's exp and log have other last bits with AVX-512 than with AVX2.
    "NPY_DISABLE_CPU_FEATURES": ("AVX512F AVX512CD AVX512_KNL AVX512_KNM AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL"),
    # So does OpenBLAS, which NumPy and SciPy bring along for products of matrices; Haswell is the first CPU with AVX2.
    "OPENBLAS_CORETYPE": "Haswell",
    # No CUDA kernels, even where TensorFlow finds a device.
    "CUDA_VISIBLE_DEVICES": "-1",
}

# Removed: other names of the same switches, and compilers that would rewrite the graph.
CLEARED_PREFIXES = ("DNNL_", "TF_SET_ONEDNN", "TF_XLA_FLAGS", "XLA_FLAGS")


def pin() -> None:
    """Pins thread counts and kernel choice in this process's environment, for itself and its children."""
    for name in [name for name in os.environ if name.startswith(CLEARED_PREFIXES)]:
        del os.environ[name]
    os.environ.update(PINNED)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's remarks on the CPU and missing GPUs


def require_avx2() -> None:
    """Raises PipelineError if the CPU cannot run the pinned kernels."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except FileNotFoundError:
        flags = []
    if "avx2" not in flags:
        raise PipelineError(
            "this CPU shows no AVX2, which the pinned kernels need (fedpipe/pinning.py): use an x86-64 CPU with AVX2"
        )
