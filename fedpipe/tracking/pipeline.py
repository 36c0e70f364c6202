"""A training as the files of a pipeline describe it: its params, its data and its measurements."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedpipe.datasets import pool
from fedpipe.datasets.pool import Pool
from fedpipe.dvc_lock import Lock, md5
from fedpipe.tracking import ci
from fedpipe.tracking.git_state import git_tags
from fedpipe.tracking.naming import Changing, description, run_name
from fedpipe.tracking.run_events import Event, end, results, round_metrics, start

# The stages whose params a training is made with.
TRAINED_BY = ("download", "partition", "train")
# Of these stages, a rebuilt run does not know the params: they were run by hand.
UNKNOWN_TAG = "fedpipe.params_unknown"
_PRIVACY = ("epsilon_rdp", "epsilon_pld", "neighbours", "noise_multiplier")  # of metrics/training.json
_MANIFEST, _LABELS = "manifest.json", "labels.csv"  # of the shards


@dataclass(frozen=True)
class PipelineFiles:
    """Where the pipeline keeps the records of a training for MLflow.

    Attributes:
      definition: dvc.yaml.
      lock: dvc.lock.
      pool: The batches of the training samples.
      shards: The folder of the clients' shards.
      rounds: The table of the rounds.
      training: The training's figures.
      partition: The partition's figures.
      written: All that the pipeline writes, folders too.
    """

    definition: Path
    lock: Path
    pool: Pool
    shards: Path
    rounds: Path
    training: Path
    partition: Path
    written: tuple[Path, ...]

    def recorded_params(self, *stages: str) -> dict[str, Any]:
        """The params that the stages' outputs in this folder were made with, as a tree.

        They are dvc.lock's, since params.yaml may have been edited after the stages ran. A stage whose outputs are
        others than dvc.lock knows was run by hand; its params are not known, and left out.

        Raises:
          PipelineError: dvc.lock is damaged.
        """
        lock = self._lock()
        return lock.params(stage for stage in stages if lock.is_of_the_files(stage))

    def tags(self) -> dict[str, str]:
        """Tags of a run for the pipeline, its code, the CI run and the version of the pool.

        Raises:
          PipelineError: dvc.lock is damaged, or the pool's ledger cannot be read.
        """
        source = {"mlflow.source.name": self.definition.name, "mlflow.source.type": "LOCAL"}
        return source | git_tags(self.written) | ci.tags() | {"fedpipe.pool_version": self._pool_version()}

    @property
    def withholds(self) -> bool:
        """Whether the training's noise is secret, so nothing exact is published on clients' data (docs/privacy.md)."""
        return bool(_read_object(self.training).get("noise") == "secret")

    def partition_figures(self) -> dict[str, Any]:
        """The figures of the partition below the key ``data``, as the partition stage wrote them down."""
        return {} if self.withholds else {"data": _read_object(self.partition)}

    def describe(self, params: Mapping[str, Any], ending: str) -> str:
        """The description of a run with these ``params`` that ended so (`fedpipe.tracking.naming.description`)."""
        return description(params, self.dataset()["name"], ending)

    def privacy_figures(self) -> dict[str, Any]:
        """The privacy budget that the training spent, below the key ``privacy``; empty if it is not private."""
        training = _read_object(self.training)
        return {"privacy": {name: training[name] for name in _PRIVACY if name in training}}

    def last_round(self) -> int:
        """The number of the training's last round; 0 where no training is known."""
        return int(_read_object(self.training).get("rounds", 0))

    def dataset(self) -> dict[str, str]:
        """The data set's name, digest and source, as the partition stage wrote them down."""
        manifest = _read_object(self.shards / _MANIFEST)
        return {
            "name": str(manifest.get("dataset", "unknown")),
            "digest": str(manifest.get("digest", "unknown")),
            "source": str(manifest.get("source", self.shards)),
        }

    def tables(self) -> list[Path]:
        """The tables of a training that are there, and those of the partition unless they are withheld."""
        of_partition = () if self.withholds else (self.partition, self.shards / _LABELS)
        return [path for path in (self.rounds, self.training, *of_partition) if path.exists()]

    def rebuilt(
        self, params: Mapping[str, Any], files: Mapping[str, list[str]], weights: Mapping[str, str]
    ) -> list[Event]:
        """The events of a training that this store has not seen.

        Times are not among the pipeline's outputs, so all events are of now.

        Args:
          params: Its params (`recorded_params`), as a tree.
          files: Artifact folder to paths inside the journal.
          weights: ``path`` inside the journal and ``sha256`` of the weights.

        Raises:
          PipelineError: The pool's ledger cannot be read.
        """
        tags = self.tags() | {"fedpipe.restored": "true"}
        if unknown := [stage for stage in TRAINED_BY if stage not in params]:
            tags[UNKNOWN_TAG] = ", ".join(unknown)
        changing, training = Changing(), _read_object(self.training)
        last = self.last_round()
        figures = {"train": training.get("train", {}), **self.privacy_figures(), **self.partition_figures()}
        started = {"name": run_name(params), "params": params, "dataset": self.dataset(), "tags": tags}
        ending = f"finished after {last} rounds; made from the pipeline's files"
        return [
            start(started | {"description": self.describe(params, ending)}, {}),
            *(round_metrics(int(row["round"]), _measured(row), changing) for row in _rows(self.rounds)),
            results(figures, files, weights, last),
            end("FINISHED"),
        ]

    def _lock(self) -> Lock:
        return Lock.read(self.lock) if self.lock.is_file() else Lock({})

    def _pool_version(self) -> str:
        """The version of the pool that the shards were made with; unknown where the ledger has changed since."""
        ledger = self.pool.ledger
        partitioned = self._lock().hashes("partition", "deps").get(str(ledger))
        is_same = partitioned is None or (ledger.is_file() and md5(ledger) == partitioned)
        return str(pool.version(self.pool.read_ledger())) if is_same else "unknown"


def _read_object(path: Path) -> dict[str, Any]:
    """A JSON file's object; empty where the file is missing."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _measured(row: Mapping[str, str]) -> dict[str, float]:
    return {key: float(value) for key, value in row.items() if key != "round" and value not in ("", None)}
