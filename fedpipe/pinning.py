"""The settings on which bits depend besides data, params and code: pinned here, before NumPy and TensorFlow load.

Another thread count inside an op, or another instruction set, makes other kernels, other orders of addition and so
other bits. `pin_process` runs when the package ``stages`` or ``operations`` is imported, that is, before anything else
there; child processes, the TFF worker among them, inherit the variables.
"""

import os
import resource
import sys
from collections.abc import Mapping
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
    # By default it has as many as the machine has cores, and cuts its sums accordingly.
    "OPENBLAS_NUM_THREADS": "1",
    # No folder, so that Keras reads no user's keras.json (number type, order of axes), and writes none.
    "KERAS_HOME": os.devnull,
    # No CUDA kernels, even where TensorFlow finds a device.
    "CUDA_VISIBLE_DEVICES": "-1",
}

# Removed, by family: variables by which libraries take other kernels, threads, number types or compilers, or fail.
CLEARED = (
    *("TF_", "TF2_", "TENSORFLOW_", "XLA_", "AUTOGRAPH_", "KERAS_", "GRPC_", "PROTOCOL_BUFFERS_"),
    *("ONEDNN_", "DNNL_", "MKL_", "KMP_", "OMP_", "OPENBLAS_", "GOTO_", "BLIS_"),
    *("NPY_", "NUMPY_", "SCIPY_", "PANDAS_", "NUMEXPR_"),
    "GLIBC_TUNABLES",  # other variants of the C library's exp, log and pow
)
# Kept though they are of these families: they decide only messages, and where memory comes from.
KEPT = ("TF_CPP_", "GRPC_TRACE", "GRPC_VERBOSITY", "TF_ONEDNN_USE_SYSTEM_ALLOCATOR")
_ADDRESS_SPACE = 4 * 2**30  # bytes; with 2 GiB TensorFlow ends by signal 11, with 4 a training runs
# Removed in processes of this project only, since a notebook needs its own: other modules, warnings that are errors,
# a back end that matplotlib does not know, another style.
_CLEARED_IN_PROCESSES = ("PYTHON", "MPLBACKEND", "MATPLOTLIBRC")


def pinned(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with the pinned variables, and without others that could change results."""
    kept = {name: value for name, value in environment.items() if not name.startswith(CLEARED) or name.startswith(KEPT)}
    # TensorFlow's remarks on the CPU and missing GPUs are left out, unless requested.
    return {"TF_CPP_MIN_LOG_LEVEL": "3"} | kept | PINNED


def pin() -> None:
    """Pins thread counts and kernel choice in this process's environment, for itself and its children.

    Raises:
      PipelineError: A library that reads the environment when it loads has been loaded without it.
    """
    loaded = [name for name in ("tensorflow", "numpy") if name in sys.modules]
    if loaded and not is_pinned():
        names = {"tensorflow": "TensorFlow", "numpy": "NumPy"}
        raise PipelineError(
            f"fedpipe.pin() comes too late: {' and '.join(names[name] for name in loaded)} already chose threads and "
            "kernels, so results would have other bits; restart Python (in a notebook, its kernel) and call "
            "fedpipe.pin() before other imports"
        )
    _replace_environment(pinned(os.environ))


def is_pinned() -> bool:
    """Whether this process's environment has all that `pin` sets."""
    return all(os.environ.get(name) == value for name, value in PINNED.items())


def pin_process() -> None:
    """As `pin`, and keeps the user's settings of Python and matplotlib from this process's children.

    Of ``PYTHONPATH`` this project's own folder stays.
    """
    without = {name for name in os.environ if name.startswith(_CLEARED_IN_PROCESSES) and name != "PYTHON"}
    environment = {name: value for name, value in pinned(os.environ).items() if name not in without}
    if "PYTHONPATH" in without:
        environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    _replace_environment(environment)


def _replace_environment(environment: Mapping[str, str]) -> None:
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update(environment)


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


def require_address_space() -> None:
    """Raises PipelineError if this process may map less than TensorFlow needs, which would end in a segmentation fault.

    A limit that the process itself may raise, it raises.
    """
    for limit, option in ((resource.RLIMIT_AS, "v"), (resource.RLIMIT_DATA, "d")):
        soft, hard = resource.getrlimit(limit)
        if soft != hard:
            resource.setrlimit(limit, (hard, hard))
        if hard != resource.RLIM_INFINITY and hard < _ADDRESS_SPACE:
            raise PipelineError(
                f"this process may use {hard / 2**30:.1f} GiB of addresses (`ulimit -{option}`), but TensorFlow needs "
                f"{_ADDRESS_SPACE / 2**30:.0f}: start it from a shell with `ulimit -{option} unlimited`"
            )
