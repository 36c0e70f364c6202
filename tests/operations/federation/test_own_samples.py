"""A site's own samples, as `make site` finds them."""

import pytest

from fedpipe.errors import PipelineError
from operations.federation.own_samples import require_own
from tests.fedpipe.partitioning.settings import partition


def test_the_coordinators_params_are_no_sites() -> None:
    require_own(partition(scheme="iid"))
    with pytest.raises(PipelineError, match=r"'partition.scheme' is at_sites, which is for the coordinator: write how"):
        require_own(partition(scheme="at_sites", at_sites={"sites": ["hospital-a", "hospital-b"]}))
