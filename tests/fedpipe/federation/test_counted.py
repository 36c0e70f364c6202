"""What a policy counts in a sum: whoever sends something, once, and nobody else."""

from typing import Any

import numpy as np
import pytest

from fedpipe.errors import PipelineError
from fedpipe.federation.counted import counted, require_sound, work_of
from fedpipe.federation.messages import Join
from fedpipe.learning.work_request import WorkRequest
from tests.fedpipe.training import train_settings

BATCHES_OF_5 = train_settings(algorithm="fed_avg", batch_size=5, last_batch="drop")
BUFFERED = BATCHES_OF_5.model_copy(update={"algorithm": "fed_buff"})  # asynchronous
JOIN = Join(
    site="site-1",
    sites=3,
    training="0123456789abcdef",
    settings={"rounds": 4, "batch_size": 5},
    facts={"Python": "3"},
    image_shape=[8, 8, 1],
    classes=10,
    clients=12,
    first=0,
    digest="a" * 64,
)


def test_a_client_without_a_batch_does_not_hide_others() -> None:
    requests = WorkRequest.of([0, 1, 2]).pack()
    assert counted(requests, np.array([9, 4, 0]), BATCHES_OF_5).tolist() == [True, False, False]
    kept = train_settings(algorithm="fed_avg", batch_size=5, last_batch="keep")
    assert counted(requests, np.array([9, 4, 0]), kept).tolist() == [True, True, False]


def test_a_client_that_does_not_report_counts_where_all_do() -> None:
    requests = WorkRequest.of([0, 1], reports=np.array([True, False])).pack()
    assert counted(requests, np.array([9, 9]), BATCHES_OF_5).tolist() == [True, True]
    assert counted(requests, np.array([9, 9]), BUFFERED).tolist() == [True, False]


@pytest.mark.parametrize("work", [0, -1, 1001])
def test_a_client_that_does_nothing_is_refused(work: int) -> None:
    require_sound([WorkRequest.of([0], work=1).pack(), WorkRequest.of([1]).pack()], BATCHES_OF_5)
    with pytest.raises(PipelineError, match="is not from 1 to 1000 thousandths"):
        require_sound([WorkRequest.of([0], work=work).pack(), WorkRequest.of([1]).pack()], BATCHES_OF_5)


def test_a_client_in_two_sums_of_a_question_is_refused() -> None:
    twice = [WorkRequest.of([0, 1]).pack(), WorkRequest.of([2, 1]).pack()]
    with pytest.raises(PipelineError, match="a client is asked twice in a question"):
        require_sound(twice, BATCHES_OF_5)
    require_sound(twice, BUFFERED)  # one to report, one to begin


def test_the_same_question_with_other_settings_is_another_round() -> None:
    def digest(**changes: Any) -> str:
        return work_of(JOIN.model_copy(update=changes), BATCHES_OF_5, b"question")

    assert digest() == digest(settings={"rounds": 9, "batch_size": 5}) == digest(facts={}, sites=5)
    private = train_settings(aggregator="local_dp", client_weighting="uniform")
    noisy = [JOIN, JOIN.model_copy(update={"facts": {}}), JOIN.model_copy(update={"settings": {"rounds": 9}})]
    assert len({work_of(join, private, b"question") for join in noisy}) == 3  # each would be another update
    others = [digest(settings={"rounds": 4, "batch_size": 1}), digest(first=1), digest(clients=13)]
    assert len({digest(), *others, work_of(JOIN, BATCHES_OF_5, b"another")}) == 5
