"""The four stages that dvc.yaml runs; each reads params and inputs, calls the library and writes outputs."""

import sys
from pathlib import Path

if sys.argv[0] == "-m":  # `python -m stages.train` and the like load this first
    from fedpipe import stage_process

    stage_process.begin()
    stage_process.require(libraries=Path(__file__).parents[1] / "libraries.lock")

from fedpipe.pinning import pin_process

pin_process()  # here, since it must come before NumPy and TensorFlow load
