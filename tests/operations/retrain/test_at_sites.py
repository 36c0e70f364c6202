"""A retraining over samples that are at sites is refused before a batch is taken in."""

import pytest

from fedpipe.errors import PipelineError
from operations.retrain.__main__ import require_samples_here
from tests.fedpipe.partitioning.settings import partition


def test_samples_at_sites_are_refused() -> None:
    require_samples_here(partition(scheme="iid"))
    with pytest.raises(PipelineError, match=r"'partition.scheme' is at_sites, and a retraining takes batches"):
        require_samples_here(partition(scheme="at_sites", at_sites={"sites": ["hospital-a", "hospital-b"]}))
