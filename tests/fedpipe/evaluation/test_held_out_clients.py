"""The table of all clients, with those that never trained in their places."""

import io
import math

import pandas as pd

from fedpipe.evaluation.clients import by_cluster
from fedpipe.evaluation.held_out_clients import joined


def test_clients_that_never_trained_stand_in_their_places() -> None:
    trained = pd.DataFrame({"client": [0, 2], "train_samples": [4, 0], "train_accuracy": [0.5, math.nan]})
    trained = trained.assign(train_personal_accuracy=[0.75, math.nan], cluster=[1, 0])
    never = pd.DataFrame({"client": [1], "held_out_samples": [7], "held_out_accuracy": [0.25]})
    table = joined(trained, never)
    lines = table.to_csv(index=False).splitlines()
    assert lines[0].startswith("client,train_samples,train_accuracy") and lines[0].endswith("held_out_accuracy")
    assert lines[1:] == ["0,4,0.5,0.75,1,,", "1,,,,,7,0.25", "2,0,,,0,,"]
    assert {number: values.tolist() for number, values in by_cluster(table).items()} == {0: [], 1: [0.75]}
    again = pd.read_csv(io.StringIO("\n".join(lines)))
    assert {number: values.tolist() for number, values in by_cluster(again).items()} == {0: [], 1: [0.75]}
