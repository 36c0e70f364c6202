"""What is pinned is what the libraries then use, whatever the user's environment says."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from fedpipe.pinning import PINNED, pinned
from tests import ROOT

# Each changed results or stopped a stage.
HOSTILE = {
    "TF_DETERMINISTIC_OPS": "1",
    "TF_FUNCTION_JIT_COMPILE_DEFAULT": "1",
    "TF_NUM_INTRAOP_THREADS": "7",
    "TENSORFLOW_USE_CUSTOM_CONTRACTION_KERNEL": "0",
    "TF2_BEHAVIOR": "0",
    "XLA_FLAGS": "--nonsense",
    "NPY_ENABLE_CPU_FEATURES": "AVX512F",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "DNNL_MAX_CPU_ISA": "SSE41",
    "OMP_NUM_THREADS": "7",
    "KMP_AFFINITY": "disabled",
    "MKL_NUM_THREADS": "7",
    "GOTO_NUM_THREADS": "7",
    "KERAS_BACKEND": "jax",
    "PANDAS_COPY_ON_WRITE": "warn",
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "cpp",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA",
}


def printed(code: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_openblas_takes_the_pinned_kernels_and_one_thread() -> None:
    code = (
        "import stages, numpy, scipy.linalg, threadpoolctl\n"
        "print({(blas['architecture'], blas['num_threads']) for blas in threadpoolctl.threadpool_info() "
        "if blas['internal_api'] == 'openblas'})"
    )
    assert printed(code, OPENBLAS_NUM_THREADS="2", OMP_NUM_THREADS="2") == "{('Haswell', 1)}"


def test_variables_that_change_results_are_cleared_by_family_and_others_stay() -> None:
    others = {"PATH": "/bin", "FEDPIPE_TRACKING": "off", "MALLOC_ARENA_MAX": "2", "LD_PRELOAD": "x.so", "OMPI": "1"}
    kept = {"TF_CPP_MIN_LOG_LEVEL": "0", "TF_CPP_VMODULE": "x=1", "TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "0"}
    assert pinned(HOSTILE | others | kept) == others | kept | PINNED
    assert pinned({}) == PINNED | {"TF_CPP_MIN_LOG_LEVEL": "3"}


def test_libraries_load_whatever_the_environment_says() -> None:
    code = "import stages, numpy, pandas, matplotlib, google.protobuf.message; print(numpy.__file__)"
    assert sys.prefix in printed(code, **HOSTILE, MPLBACKEND="nonsense", MATPLOTLIBRC="/nonsense")


@pytest.mark.slow
def test_a_users_keras_json_is_neither_read_nor_written(tmp_path: Path) -> None:
    settings = tmp_path / ".keras/keras.json"
    code = "import stages; from keras import backend as k; print(k.floatx(), k.image_data_format(), k.epsilon())"
    assert printed(code, HOME=str(tmp_path)) == "float32 channels_last 1e-07"
    assert not settings.exists()
    settings.parent.mkdir()
    settings.write_text('{"floatx": "float16", "image_data_format": "channels_first", "epsilon": 0.5}')
    assert printed(code, HOME=str(tmp_path)) == "float32 channels_last 1e-07"


@pytest.mark.parametrize("package", ["stages", "operations"])
def test_children_of_stages_and_operations_get_no_settings_of_python(package: str) -> None:
    names = "sorted(name for name in os.environ if name.startswith(('PYTHON', 'MPL')))"
    code = f"import {package}, os; print(*(os.environ[name] for name in {names}))"
    hostile = {"PYTHONPATH": "/nonsense", "PYTHONWARNINGS": "default", "MPLBACKEND": "nonsense"}
    assert printed(code, **hostile, PYTHON="python3.11") == f"python3.11 {ROOT}"


@pytest.mark.parametrize(("limit", "option"), [(resource.RLIMIT_AS, "v"), (resource.RLIMIT_DATA, "d")])
def test_too_few_addresses_for_tensorflow_are_one_sentence(limit: int, option: str) -> None:
    """It would end in a segmentation fault. A limit that the process may raise itself stops nothing."""
    code = (
        "import resource\n"
        "from fedpipe.errors import PipelineError\n"
        "from fedpipe.lazy import tf\n"
        f"resource.setrlimit({limit}, (3 << 29, {{hard}}))\n"
        "try:\n    print(tf.constant(1).shape)\n"
        "except PipelineError as error:\n    print(error)\n"
    )
    assert printed(code.format(hard="3 << 29")) == (
        f"this process may use 1.5 GiB of addresses (`ulimit -{option}`), but TensorFlow needs 4: start it from a "
        f"shell with `ulimit -{option} unlimited`"
    )
    assert printed(code.format(hard="-1")) == "()"


def test_credentials_and_addresses_reach_what_needs_them() -> None:
    """Of MLflow and S3: for children, as DVC and the process that delivers runs, too."""
    names = ["MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"]
    names += ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"]
    names += ["AWS_DEFAULT_REGION", "AWS_REGION", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "GH_TOKEN"]
    inputs = {name: f"the {name}" for name in names}
    assert {name: value for name, value in pinned(inputs).items() if name in names} == inputs
    for package in ("stages", "operations"):
        code = f"import {package}, os; print(all(os.environ[name] == 'the ' + name for name in {names}))"
        assert printed(code, **inputs) == "True"
