"""How large a site's sums are in a training, before it takes part in one."""

import math
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fedpipe.config.train import Train
from fedpipe.datasets.shards import Manifest
from fedpipe.learning.wiring import Share, Wiring
from fedpipe.runtime.engine import CHUNK, group_sizes


class SumSizes(NamedTuple):
    """The data that leave a site in a round."""

    passes: list[int]  # bytes of a sum in each pass, without the few of the message around it
    chunks: int  # sums in a pass over all clients of the site


def sum_sizes(settings: Train, shards: Path) -> SumSizes:
    """Builds the graphs of a training over the site's ``shards``, and runs none.

    Raises:
      PipelineError: The model does not fit the images.
    """
    clients = Manifest.read(shards).clients
    with tempfile.TemporaryDirectory() as folder:
        wiring = Wiring.of(settings, shards.resolve(), Path(folder), share=Share(0, clients))
        kinds = [each.zero.type_signature.result for each in wiring.process.passes]
    # A length that depends on the clients of a sum is at most their number.
    lengths = [[[clients if length is None else length for length in leaf.shape] for leaf in kind] for kind in kinds]
    sizes = [
        sum(math.prod(shape) * np.dtype(leaf.dtype).itemsize for shape, leaf in zip(shapes, kind, strict=True))
        for shapes, kind in zip(lengths, kinds, strict=True)
    ]
    return SumSizes(sizes, math.ceil(len(group_sizes(clients)) / CHUNK))
