"""A client's computation and traffic in a round, which take simulated time (fedpipe/runtime/availability.py).

Computation is counted in epochs: a forward and a backward pass over each of the client's samples. A forward pass alone,
such as for a loss, is a third of one, for a backward pass takes twice the operations of a forward pass.

Source: Kaplan et al. 2020, "Scaling Laws for Neural Language Models", section 2.1, https://arxiv.org/abs/2001.08361.
"""

from typing import NamedTuple

FORWARD = 1 / 3  # epochs of a forward pass


class Cost(NamedTuple):
    """Of a client that does all of its work in a round."""

    local: float  # epochs of local steps, of which a straggler takes a part
    full: float = 0.0  # epochs besides, which every client computes whole
    exchanges: int = 1  # times that the server's message comes down and the client's goes up
