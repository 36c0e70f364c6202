"""A signal that asks a training to end ends it, wherever it arrives."""

import gc
import os
import signal
import time
from collections.abc import Iterator

import pytest

from fedpipe.system.signals import Stopped, held, stoppable


@pytest.fixture
def stopped_in_garbage_collection() -> Iterator[None]:
    """The next collection gets SIGTERM in a callback, whose exceptions Python reports and forgets."""

    def callback(phase: str, info: dict[str, int]) -> None:
        gc.callbacks.remove(callback)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)

    gc.callbacks.append(callback)
    yield
    if callback in gc.callbacks:
        gc.callbacks.remove(callback)


def test_a_stop_that_python_would_forget_comes_again(stopped_in_garbage_collection: None) -> None:
    with pytest.raises(Stopped) as stop, stoppable():
        gc.collect()
        time.sleep(2)
    assert stop.value.number == signal.SIGTERM


def test_held_puts_a_stop_off_and_sigterm_counts_once() -> None:
    went_on = False
    with stoppable():
        with pytest.raises(Stopped), held():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            went_on = True
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
    assert went_on
