"""TensorFlow and TFF, imported at their first use, without what they import in vain.

Models, algorithms and aggregators hold params that are checked before any stage runs, and TensorFlow takes seconds to
import. So their files say ``from fedpipe.lazy import tf`` in place of ``import tensorflow as tf``.

Some of these seconds go into packages that TensorFlow and TFF import for parts of theirs which nobody uses here. These
packages are imported at their first use too.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from threading import RLock
from types import ModuleType
from typing import Any

from fedpipe.pinning import require_address_space

# What a package's import leaves out. A name that TensorFlow does not find in JAX or Keras, it does without.
_LEFT_OUT = {
    "tensorflow": ("jax", "keras"),  # for TensorFlow Lite's converter; tf.keras is Keras, imported at its first use
    "tensorflow_federated": ("tensorflow_probability",),  # for the discrete Gaussian noise of TensorFlow Privacy
}
_lock = RLock()


class _Lazy:
    """Stands for a package until its first use."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(_imported(self._name), attribute)


class _LeftOut(ModuleType):
    """Stands for a package in modules that import it while it is left out, and imports it when they use it later."""

    def __getattr__(self, attribute: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            raise AttributeError(f"{self.__name__} is not imported yet")
        return getattr(import_module(self.__name__), attribute)


def _imported(name: str) -> ModuleType:
    with _lock:
        if name in sys.modules:
            return import_module(name)
        if name == "tensorflow_federated":
            _imported("tensorflow")
        require_address_space()
        with _left_out(_LEFT_OUT[name]):
            return import_module(name)


@contextmanager
def _left_out(names: tuple[str, ...]) -> Iterator[None]:
    """Whoever imports one of the packages in this block gets what stands for it."""
    stand_ins = {}
    for name in names:
        spec = None if name in sys.modules else find_spec(name)
        if spec is not None:
            sys.modules[name] = stand_ins[name] = _LeftOut(name)
            stand_ins[name].__spec__ = spec
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]


tf: Any = _Lazy("tensorflow")
tff: Any = _Lazy("tensorflow_federated")
