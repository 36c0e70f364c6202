"""A round's record: each measurement adds up by its kind, and rounds without a usable update are refused."""

from typing import Any

import numpy as np
import pytest

from fedpipe.errors import DivergedError, NothingTrainedError, PipelineError
from fedpipe.learning.measurements import Counted, MeanPerClient, MeanPerExample, Measurement, Summed
from fedpipe.learning.message_bytes import ClientBytes
from fedpipe.learning.work_request import WorkRequest
from fedpipe.runtime.cohort import Cohort
from fedpipe.runtime.records import RoundRecord, require_contribution

BYTES = ClientBytes(100, 10)


def measured(**changes: Any) -> dict[str, Measurement]:
    """The sums of a round of 4 clients, who saw 20 examples; ``changes`` are counts, or measurements of any kind."""
    sums: dict[str, Measurement] = {"loss": MeanPerExample(np.float32(5)), "accuracy": MeanPerExample(np.int64(8))}
    counts = {"seen": 20, "examples": 10, "clients": 4, "non_finite": 0}
    sums |= {name: Counted(np.int64(count)) for name, count in counts.items()}
    return sums | {name: Counted(value) if isinstance(value, int) else value for name, value in changes.items()}


def cohort(clients: int, **counts: float) -> Cohort:
    return Cohort(WorkRequest.of(range(clients)), counts)


def record(sums: dict[str, Measurement], **test: float) -> RoundRecord:
    return RoundRecord.of(3, cohort(5), sums, BYTES, test)


def test_each_kind_of_measurement_makes_its_column() -> None:
    seven = np.float32(7)
    kinds = {
        "by_example": MeanPerExample(seven),
        "whole_by_example": MeanPerExample(np.int64(7)),
        "by_client": MeanPerClient(seven),
        "summed": Summed(seven),
        "counted": Counted(np.int32(7)),
    }
    row = record(measured(**kinds)).row()
    expected = {"by_example": 0.35, "whole_by_example": 0.35, "by_client": 1.75, "summed": 7.0, "counted": 7}
    assert {name: row[name] for name in kinds} == expected
    assert isinstance(row["counted"], int) and isinstance(row["summed"], float)
    assert (row["round"], row["train_loss"], row["train_accuracy"], row["clients"], row["examples"]) == (
        3,
        0.25,
        0.4,
        4,
        10,
    )
    assert "seen" not in row


def test_a_round_without_examples_or_clients_has_no_means() -> None:
    empty = measured(seen=0, clients=0, mean=MeanPerExample(np.float32(0)), of_clients=MeanPerClient(np.float32(0)))
    row = record(empty).row()
    assert [row[name] for name in ("train_loss", "train_accuracy", "mean", "of_clients")] == [None] * 4


def test_bytes_are_those_of_every_client_and_of_compressed_updates() -> None:
    row = record(measured(compressed_bytes=7)).row()
    assert (row["bytes_down"], row["bytes_up"]) == (5 * 100, 5 * 10 + 7) and "compressed_bytes" not in row
    counts = {"asked": 8, "measured": 9}  # some dropped out, and more were measured before the cohort was drawn
    row = RoundRecord.of(1, cohort(5, **counts), measured(), BYTES, {}).row()
    assert (row["bytes_down"], row["bytes_up"]) == (9 * 100, 5 * 10 + 9 * 4)


@pytest.mark.parametrize("name", ["bytes_up", "round", "epsilon", "asked"])
def test_two_columns_of_one_name_are_refused(name: str) -> None:
    with pytest.raises(PipelineError, match=f"two columns {name}: rename"):
        RoundRecord.of(1, cohort(5, asked=5), measured(**{name: 1}), BYTES, {"epsilon": 0.1})


def test_a_round_whose_updates_are_all_not_finite_has_diverged() -> None:
    for clients in (0, 1):  # one has no samples
        with pytest.raises(
            DivergedError, match=r"round 3: the updates of all 4 clients were not finite .*learning_rate"
        ):
            require_contribution(3, cohort(5), measured(seen=0, clients=clients, non_finite=4), may_be_empty=True)
    require_contribution(3, cohort(5), measured(non_finite=4))  # one more is finite


def test_clients_without_a_whole_batch_are_told_apart_from_clients_without_samples() -> None:
    with pytest.raises(
        NothingTrainedError, match=r"none of its 2 clients has a whole batch, and 'train.last_batch' drops"
    ):
        require_contribution(1, cohort(2), measured(seen=0, examples=9))
    with pytest.raises(NothingTrainedError, match="none of its 2 clients has a sample"):
        require_contribution(1, cohort(2), measured(seen=0, examples=0))
    require_contribution(1, cohort(2), measured(seen=0, examples=0), may_be_empty=True)
    require_contribution(1, cohort(0), measured(seen=0, examples=0))


def test_with_secret_noise_a_record_tells_of_the_model_alone() -> None:
    """Whatever a new algorithm, cohort or availability measures is withheld unless it is known to be safe."""
    figures = {"test_loss": 1.0, "test_accuracy": 0.5, "test_backdoor": 0.1, "epsilon": 2.0}
    others = {"validation_loss": 1.0, "validation_accuracy": 0.4, "test_clients_accuracy": 0.3}
    sums = measured(clip_norm=Summed(0.7), clipped=MeanPerClient(1.0), newest=Summed(3.0))
    full = RoundRecord.of(3, cohort(2, asked=4, lately=1), sums, ClientBytes(1, 1), figures | others)
    row = full.withheld(figures | others).row()
    assert list(row) == list(full.row())
    assert {name for name, value in row.items() if value is not None} == {"round", "clip_norm", *figures}
