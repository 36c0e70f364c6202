"""fedpipe's pipeline: one folder a stage, data walking through in one direction."""

from stages.pinning import pin

pin()  # here, since it must come before NumPy and TensorFlow in every stage, test and tool
