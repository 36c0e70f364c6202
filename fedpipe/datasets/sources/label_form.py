"""Labels in a form that is not one integer per sample: what it is, and how to convert it."""

from typing import Any

import numpy as np

from fedpipe.errors import PipelineError

_TEXT_KINDS = "OSU"  # NumPy's kinds: objects, bytes, text


def check_label_form(called: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Refuses labels that are text, floats or one-hot; whether integers fit into uint8 is not looked at here.

    Args:
      called: What messages call the labels.
      dtype: Their type.
      shape: Their shape; [samples] is right.

    Raises:
      PipelineError: They are; the message says how to convert them.
    """
    wanted = "labels must be one integer per sample, 0 to classes - 1"
    if dtype.kind in _TEXT_KINDS:
        raise PipelineError(
            f"{called} holds text or other objects ({dtype}); {wanted}: number the classes, the same in training and "
            "test labels, such as np.searchsorted(names, y).astype(np.uint8) with the sorted names of all classes"
        )
    if len(shape) == 2 and shape[1] > 1:
        raise PipelineError(
            f"{called} has shape {shape}, which looks like one-hot labels of {shape[1]} classes; {wanted}: store "
            "y.argmax(axis=1).astype(np.uint8)"
        )
    if dtype.kind not in "iu":
        raise PipelineError(f"{called} has numbers of type {dtype}; {wanted}: store y.astype(np.uint8)")
