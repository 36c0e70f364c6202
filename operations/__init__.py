"""What people and CI run around the pipeline: from new data to the model in use."""

import os

from fedpipe.pinning import pin_process
from operations.credentials import settle

pin_process()  # before NumPy and TensorFlow load
settle(os.environ)
