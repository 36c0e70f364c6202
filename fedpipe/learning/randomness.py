"""Seeds inside graphs: every draw of a client or of the server is a stateless one from (seed, purpose, round, client).

``SeedSequence([seed, purpose])`` gives the first two words; round and client are folded in by Philox (Salmon et al.
2011, "Parallel Random Numbers: As Easy as 1, 2, 3"). Draw with ``tf.random.stateless_*(..., alg="philox")``, which is
the same on every CPU. The draws of TFF's own aggregators (noise, rotations, sampling) come from the clock or from
global state: do not use those.
"""

from typing import Any

import numpy as np

from fedpipe.lazy import tf
from fedpipe.seeds import Purpose


def seed_in_graph(seed: int, purpose: Purpose, round_number: Any, client: Any = 0) -> Any:
    """An int32 [2] seed for ``tf.random.stateless_*``.

    Args:
      seed: That of params.yaml.
      purpose: What is drawn.
      round_number: int32 scalar tensor.
      client: int32 scalar tensor; 0 for the server.
    """
    words = np.random.SeedSequence([seed, int(purpose)]).generate_state(2, np.uint32).view(np.int32)
    fold_in = tf.random.experimental.stateless_fold_in
    return fold_in(fold_in(tf.constant(words), round_number, alg="philox"), client, alg="philox")
