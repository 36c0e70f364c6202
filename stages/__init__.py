"""The four stages that dvc.yaml runs; each reads params and inputs, calls the library and writes outputs."""

from fedpipe.pinning import pin

pin()  # here, since it must come before NumPy and TensorFlow load
