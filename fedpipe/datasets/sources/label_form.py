"""Labels in a form that is not one integer per sample: its name, and how to convert it."""

from typing import Any

import numpy as np
import numpy.typing as npt

from fedpipe.errors import PipelineError

_TEXT_KINDS = "OSU"  # NumPy's kinds: objects, bytes, text


def check_label_form(
    called: str, dtype: np.dtype[Any], shape: tuple[int, ...], labels: npt.NDArray[Any] | None = None
) -> None:
    """Refuses labels that are text, floats, one-hot or multi-label; whether integers fit into uint8 is checked later.

    Args:
      called: What messages call the labels.
      dtype: Their type.
      shape: Their shape; [samples] is right.
      labels: The labels, where they have been read: they show whether rows are one-hot.

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
        one_hot = f"one-hot labels of {shape[1]} classes; {wanted}: store y.argmax(axis=1).astype(np.uint8)"
        several = f"{shape[1]} labels per sample (multi-label); {wanted}: store one column, such as y[:, 0]"
        if labels is None:
            raise PipelineError(f"{called} has shape {shape}: either {one_hot}; or {several}")
        is_one_hot = np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all()
        raise PipelineError(f"{called} has shape {shape}, which are {one_hot if is_one_hot else several}")
    if dtype.kind not in "iu":
        raise PipelineError(f"{called} has numbers of type {dtype}; {wanted}: store y.astype(np.uint8)")
