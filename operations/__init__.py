"""What people and CI run around the pipeline: from new data to the model in use."""

from fedpipe.pinning import pin_process

pin_process()  # before NumPy and TensorFlow load
