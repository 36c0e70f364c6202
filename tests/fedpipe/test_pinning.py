"""What is pinned is what the libraries then use."""

import subprocess
import sys

from tests import ROOT


def test_openblas_takes_the_pinned_kernels() -> None:
    code = (
        "import stages, numpy, scipy.linalg, threadpoolctl\n"
        "print(sorted({found['architecture'] for found in threadpoolctl.threadpool_info() "
        "if found['internal_api'] == 'openblas'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['Haswell']"
