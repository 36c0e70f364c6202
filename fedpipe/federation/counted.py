"""Whose samples are in a sum, by the requests to clients: these clients and samples a policy counts."""

import hashlib
import json
from collections.abc import Sequence

import numpy as np

from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import has_noise_at_clients
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.errors import PipelineError
from fedpipe.federation.messages import Join
from fedpipe.learning.local_training import batch_count
from fedpipe.learning.work_request import WHOLE, WorkRequest

_REPORTS = int(WorkRequest.of([0], trains=False).pack()[0, 3])


def require_sound(chunks: Sequence[np.ndarray], settings: Train) -> None:
    """Checks the requests of a question, int32 [n, 4] of each chunk.

    Raises:
      PipelineError: A client is selected twice, so that two sums, or its share in one, would tell of it alone; or the
        part of its work is none.
    """
    requests = np.concatenate(chunks)
    # In asynchronous training a client may report an update and begin another one.
    if not _is_asynchronous(settings) and len(np.unique(requests[:, 0])) < len(requests):
        raise PipelineError("a client is asked twice in a question")
    if ((requests[:, 2] < 1) | (requests[:, 2] > WHOLE)).any():
        raise PipelineError(f"the part of its work that a client is asked for is not from 1 to {WHOLE} thousandths")


def counted(requests: np.ndarray, sizes: np.ndarray, settings: Train) -> np.ndarray:
    """Which requests put something into a training's sum, bool [n].

    A client that has no batch sends nothing, and in asynchronous training one that does not report.

    Args:
      requests: int32 [n, 4].
      sizes: int64 [n], how many samples the client of each has.
      settings: Section train.
    """
    has_batch = batch_count(settings, sizes) > 0
    return has_batch & ((requests[:, 3] & _REPORTS) > 0) if _is_asynchronous(settings) else has_batch


def weight_of(samples: np.ndarray, settings: Train) -> tuple[np.ndarray, float]:
    """Which clients have a batch to train on, bool [clients], and the sum of these clients' weights.

    Args:
      samples: int64 [clients], how many samples each has.
      settings: Section train.
    """
    has_batch = batch_count(settings, samples) > 0
    weights = samples if settings.client_weighting == "examples" else np.ones_like(samples)
    return has_batch, float(weights[has_batch].sum())


def work_of(join: Join, settings: Train, question: bytes) -> str:
    """The digest of the work that a request for sums causes at a site: a request repeated after a resume counts once.

    The question alone is not enough, since it leaves open with which settings, and as which clients, a site answers.
    Noise of clients follows from it, so with noise it has all that an answer depends on.

    Args:
      join: The question to take part.
      settings: Section train in it.
      question: The question for sums.
    """
    decides = join.model_dump(include={"settings", "clients", "first", "digest"})
    if has_noise_at_clients(settings):
        decides["facts"] = join.facts  # which are the site's, too
    else:
        decides["settings"].pop("rounds", None)  # a training of more rounds begins as one of fewer
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode() + question).hexdigest()


def _is_asynchronous(settings: Train) -> bool:
    return ALGORITHMS.of(settings.algorithm).is_asynchronous
