"""The four stages that dvc.yaml runs; each reads params and inputs, calls the library and writes outputs."""

import sys

if sys.argv[0] == "-m":  # `python -m stages.train` and the like load this first
    from fedpipe import stage_process

    stage_process.begin()

from fedpipe.pinning import pin

pin()  # here, since it must come before NumPy and TensorFlow load
