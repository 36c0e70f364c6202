"""What a coordinator could learn of a single client is refused by its own checks, and again by each site."""

from typing import Any

import pytest

from fedpipe.errors import PipelineError
from fedpipe.federation.fitting import require_fitting
from tests.fedpipe.training import train_settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"client_rounds": True}, "'train.client_rounds' is true, and sites send sums over their clients only"),
        (
            {"client_weighting": "per_client", "client_weights": {"values": [1.0, 0.0]}},
            "'train.client_weighting' is per_client, with which a coordinator could single out a client",
        ),
    ],
)
def test_what_singles_out_a_client_is_refused(changes: dict[str, Any], message: str) -> None:
    require_fitting(train_settings())
    with pytest.raises(PipelineError, match=message):
        require_fitting(train_settings(**changes))
