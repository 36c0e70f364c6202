"""What people read first of a run in MLflow: its name, its description, and the names of its metrics."""

import collections
from collections.abc import Iterator, Mapping
from typing import Any

NOTE_TAG = "mlflow.note.content"  # MLflow shows it as the run's description
_LONGEST_NAME = 60
# Params that tell runs apart: dotted name, value of the default recipe, and how the name has another value.
_TELLING = (
    ("train.algorithm", "fed_avg", "{}"),
    ("train.aggregator", "mean", "{}"),
    ("train.attack", "no_attack", "{}"),
    ("train.compressor", "no_compression", "{}"),
    ("partition.scheme", "contiguous", "{}"),
    ("partition.quantity", "even", "{}"),
    ("train.model", "baseline_cnn", "{}"),
    ("train.cohort", "uniform", "{}"),
    ("partition.clients", 600, "{} clients"),
    ("train.clients_per_round", "all", "{} per round"),
    ("train.rounds", 10, "{} rounds"),
    ("train.local_epochs", 1, "{} epochs"),
    ("train.batch_size", 20, "batch {}"),
    ("train.client_optimizer.name", "sgd", "{}"),
    ("train.client_optimizer.learning_rate", 0.02, "rate {}"),
    ("train.server_optimizer.name", "sgd", "server {}"),
    ("train.server_optimizer.learning_rate", 1.0, "server rate {}"),
    ("train.seed", 2024, "seed {}"),
    ("partition.leave_out", 0, "{} left out"),
)
DEFAULT_NAME = "default recipe"

# Sections of the MLflow UI: the part of a metric's name before its first slash.
_MEASURED_ON = ("train", "validation", "test")
_COST = ("bytes_down", "bytes_up", "seconds", "total_seconds", "simulated_hours")
_PRIVACY = ("epsilon", "clip_norm", "clipped")
SECONDS = "cost/seconds"  # of each round


def run_name(params: Mapping[str, Any]) -> str:
    """A run's name: what differs from the default recipe, such as ``scaffold, dirichlet 0.1, 100 clients``.

    Args:
      params: The run's params, as a tree; missing ones are unknown.
    """
    parts = [f"unknown {section}" for section in ("partition", "train") if section not in params]
    for key, usual, form in _TELLING:
        value = _value(params, key)
        if value is not None and not isinstance(value, Mapping) and value != usual:
            parts.append(form.format(value) + _strength(params, key, value))
    name = ""
    for part in parts:
        if name and len(name) + len(part) > _LONGEST_NAME:
            return f"{name}, ..."
        name += f", {part}" if name else part
    return name or DEFAULT_NAME


def title(params: Mapping[str, Any]) -> str:
    """What a run trains, in a few words: ``scaffold baseline_cnn contiguous 600 clients 10 rounds``.

    Args:
      params: As for `run_name`; a missing one is a question mark.
    """
    train, partition = (collections.defaultdict(lambda: "?", params.get(key, {})) for key in ("train", "partition"))
    quantity = partition.get("quantity", "even")  # a section in revisions of before there were quantities
    quantity = f" {quantity}" if isinstance(quantity, str) and quantity != "even" else ""
    algorithm = train.get("algorithm", "fed_avg")  # revisions of before there were algorithms have none
    prefix = "" if algorithm == "fed_avg" else f"{algorithm} "
    partitioned = f"{partition['scheme']}{quantity} {partition['clients']} clients"
    return f"{prefix}{train['model']} {partitioned} {train['rounds']} rounds"


def description(params: Mapping[str, Any], dataset: str, ending: str) -> str:
    """A run's description in three lines: model, data and ending.

    Args:
      params: As for `title`.
      dataset: The data set's name.
      ending: The third line.
    """
    train, partition = (collections.defaultdict(lambda: "?", params.get(key, {})) for key in ("train", "partition"))
    if "train" not in params or "partition" not in params:  # stages that were run by hand
        return f"Trained: on {dataset}, with params that are not recorded\n\nResult: {ending}"
    optimizer = train.get("client_optimizer", {})
    what = (
        f"{train['model']} by {train['algorithm']} and {train['aggregator']}: {train['rounds']} rounds, "
        f"{train['clients_per_round']} clients per round, {optimizer.get('name', '?')} with rate "
        f"{optimizer.get('learning_rate', '?')}"
    )
    usual = ("no_attack", "no_compression", "?")
    others = [str(train[key]) for key in ("attack", "compressor") if train[key] not in usual]
    scheme = f"{partition['scheme']}{_strength(params, 'partition.scheme', partition['scheme'])}"
    on = f"{dataset}, {partition['clients']} clients, partition {scheme}, sizes {partition['quantity']}"
    # Markdown makes a paragraph of each, and one of lines without an empty one between them.
    return "\n\n".join([f"Trained: {', '.join([what, *others])}", f"On: {on}", f"Result: {ending}"])


def metric(column: str) -> str:
    """A column's name as a metric, with the section of the UI in front: ``test_accuracy`` is ``test/accuracy``."""
    samples, _, figure = column.partition("_")
    if "/" in column:
        return column
    if samples in _MEASURED_ON and figure:
        return f"{samples}/{figure}"
    if column in _COST:
        return f"cost/{column}"
    if column in _PRIVACY:
        return f"privacy/{column}"
    if column.startswith("seconds."):
        return f"phases/{column.removeprefix('seconds.')}"
    return f"clients/{column}"


def may_stay(name: str) -> bool:
    """Whether a metric may have one value in all rounds, which is no curve (`Changing`)."""
    return name.startswith(("clients/", "cost/bytes_"))


class Changing:
    """Leaves out of rounds' metrics what stays the same: it is logged once, and from its first change on in each round.

    The same rounds give the same metrics, so a resumed run continues as it began.
    """

    def __init__(self) -> None:
        self._first: dict[str, float] = {}
        self._changed: set[str] = set()

    def of(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """The metrics of the next round that are to be logged."""
        shown = {}
        for name, value in metrics.items():
            is_new = name not in self._first
            if self._first.setdefault(name, value) != value:
                self._changed.add(name)
            if is_new or name in self._changed or not may_stay(name):
                shown[name] = value
        return shown


def _value(params: Mapping[str, Any], key: str) -> Any:
    value: Any = params
    for name in key.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _strength(params: Mapping[str, Any], key: str, value: Any) -> str:
    """The first number in the section of a choice, such as Dirichlet's alpha, with a space before it."""
    section = _value(params, f"{key.partition('.')[0]}.{value}")
    numbers = _numbers(section) if isinstance(section, Mapping) else iter(())
    return next((f" {number:g}" for number in numbers), "")


def _numbers(section: Mapping[str, Any]) -> Iterator[float]:
    for value in section.values():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield value
