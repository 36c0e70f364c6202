"""The state of the weekly retraining: what is kept from one run to the next, because nothing else keeps it.

A state is a folder. `pack` writes it, a workflow uploads it, and `unpack` brings it into a fresh clone.

    manifest.json    which files it holds, with their SHA-256
    objects/         the files, by their SHA-256: equal files are stored once

docs/retraining-state.md lists its content.
"""

from operations.retrain.kept.pack import Packed, pack
from operations.retrain.kept.unpack import Unpacked, unpack

__all__ = ["Packed", "Unpacked", "pack", "unpack"]
