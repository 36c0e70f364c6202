"""TensorFlow and TFF, imported at their first use.

Models, algorithms and aggregators hold params that are checked before any stage runs, and TensorFlow takes seconds to
import. So their files say ``from fedpipe.lazy import tf`` in place of ``import tensorflow as tf``.
"""

from importlib import import_module
from typing import Any


class _Lazy:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)


tf: Any = _Lazy("tensorflow")
tff: Any = _Lazy("tensorflow_federated")
