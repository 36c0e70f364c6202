"""Sites that answer in a thread of the test's process."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SECONDS = 60.0


@contextmanager
def thread_of(stay: Callable[..., None], *arguments: Any, **options: Any) -> Iterator[list[str]]:
    """Runs a site's end of a link until the block ends; yields the lines that it says.

    Args:
      stay: Called with ``arguments``, what it is to call with lines, an event that ends it, and ``options``.
    """
    lines, ending = list[str](), threading.Event()
    thread = threading.Thread(target=stay, args=(*arguments, lines.append, ending), kwargs=options, daemon=True)
    thread.start()
    try:
        yield lines
    finally:
        ending.set()
        thread.join(SECONDS)
        assert not thread.is_alive()
