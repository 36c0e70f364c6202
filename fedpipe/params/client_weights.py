"""The weights of ``train.client_weighting: per_client``: those of a table become values, one for each client."""

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fedpipe.config.client_weights import LARGEST_WEIGHT, ClientWeights
from fedpipe.config.train import Train
from fedpipe.errors import PipelineError

if TYPE_CHECKING:
    from fedpipe.datasets.shards import Manifest

_COLUMNS = ("client", "weight")


def require_table(settings: Train, clients: int | None) -> None:
    """Checks the table before any stage runs, if the weights come from one.

    Args:
      settings: Section train of params.yaml.
      clients: The number of clients; None if they have names, which the partition stage reads.

    Raises:
      PipelineError: The table is missing, has another SHA-256, is no table of weights, or is not of these clients.
    """
    if not settings.client_weights.table:
        return
    weights = _read(settings.client_weights)
    if clients is not None:
        _in_order(weights, [str(number) for number in range(clients)], settings.client_weights.table)


def with_values(settings: Train, shards: Path, manifest: "Manifest") -> Train:
    """``settings`` with one value for each client that trains; unchanged without weights per client.

    Args:
      settings: Section train of params.yaml.
      shards: The folder of the clients' shards, with the names of the clients, if they have some.
      manifest: Of the shards.

    Raises:
      PipelineError: As of `require_table`; or there is no value for a client.
    """
    weights, numbers = settings.client_weights, manifest.client_numbers.tolist()
    if weights.is_empty:
        return settings
    if weights.table:
        names = _names(shards)
        clients = [str(number) if names is None else names[number] for number in numbers]
        values = _in_order(_read(weights), clients, weights.table, others=manifest.numbers is not None)
    elif numbers[-1] < len(weights.values):
        values = [weights.values[number] for number in numbers]
    else:
        raise PipelineError(
            f"params.yaml: 'train.client_weights.values' has {len(weights.values)} numbers, and there is a client "
            f"{numbers[-1]}: give one number for each client, those of batches among them"
        )
    return settings.model_copy(update={"client_weights": ClientWeights(values=values)})


def _names(shards: Path) -> list[str] | None:
    """The names of all clients of the partition; None if they have none."""
    path = shards / "names.csv"
    if not path.exists():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        return [row["name"] for row in csv.DictReader(file)]


def _read(weights: ClientWeights) -> dict[str, float]:
    """The weight of each client of a table, by the client's name or number."""
    content, path = weights.content("train.client_weights"), Path(weights.table)
    try:
        return dict(_rows(path, content.decode("utf-8-sig")))
    except UnicodeDecodeError:
        raise PipelineError(f"{path} is not a CSV file in UTF-8") from None


def _rows(path: Path, text: str) -> Iterator[tuple[str, float]]:
    """Client and weight of each row."""
    reader, clients = csv.DictReader(io.StringIO(text, newline="")), set()
    if missing := [column for column in _COLUMNS if column not in (reader.fieldnames or ())]:
        raise PipelineError(f"{path} has no column '{missing[0]}'; it needs {' and '.join(_COLUMNS)}")
    for row in reader:
        client, weight = row["client"], _number(row["weight"])
        if not 0 <= weight <= LARGEST_WEIGHT:
            raise PipelineError(
                f"{path}, line {reader.line_num}: the weight of client {client} is {row['weight']!r}; weights are "
                f"numbers from 0 to {LARGEST_WEIGHT:g}"
            )
        if client in clients:
            raise PipelineError(f"{path}, line {reader.line_num}: client {client} has a weight already")
        clients.add(client)
        yield client, weight


def _number(text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        return math.nan


def _in_order(weights: dict[str, float], clients: list[str], path: str, others: bool = False) -> list[float]:
    """The weights in the order of ``clients``, all of which must have one; ``others``: there may be more clients."""
    if missing := [client for client in clients if client not in weights]:
        more = f" and {len(missing) - 1} other clients" if len(missing) > 1 else ""
        raise PipelineError(f"{path} has no weight of client {missing[0]}{more}: it needs a row for each client")
    if not others and (unknown := sorted(set(weights) - set(clients))):
        raise PipelineError(
            f"{path} has a weight of client {unknown[0]}, and the partition has no such client: remove the row (a "
            "client is its name, if the scheme's clients have names, or else its number from 0)"
        )
    values = [weights[client] for client in clients]
    if not any(values):
        raise PipelineError(f"all weights in {path} are 0: give one client or more a weight above 0")
    return values
