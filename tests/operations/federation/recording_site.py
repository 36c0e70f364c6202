"""``python -m tests.operations.federation.recording_site``: `operations.federation site`, which also keeps each answer.

What leaves the site is written to ``logs/answers`` before it is encrypted.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedpipe.errors import run_stage
from fedpipe.links import site_side
from operations.federation.__main__ import main

_stay = site_side.stay


def recording(address: str, certificates: Path, name: str, answer: Callable[[bytes], bytes], *others: Any) -> None:
    def recorded(question: bytes) -> bytes:
        content = answer(question)
        with Path("logs/answers").open("ab") as file:
            file.write(content)
        return content

    _stay(address, certificates, name, recorded, *others)


if __name__ == "__main__":
    site_side.stay = recording
    run_stage(main)
