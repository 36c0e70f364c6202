"""The card of a champion: card.json for programs, card.md for people."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from fedpipe.config.download import DatasetName
from fedpipe.json_model import read_json
from fedpipe.tracking.marker import Sha256
from fedpipe.tracking.registry import registered_model

CARD = "card.json"
TEXT = "card.md"
WEIGHTS = "weights.safetensors"

Table = list[dict[str, str]]


class Data(BaseModel):
    """The training and test data of a model, by digests.

    Attributes:
      shards_sha256: Of the clients' shards.
      test_set_sha256: Of the test images and labels.
      pool_sha256: Of the pool's ledger; None if it is not known, or withheld.
      batches: SHA-256 of each batch in that ledger.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    shards_sha256: str
    test_set_sha256: str
    pool_sha256: str | None = None
    batches: Mapping[str, str] = Field(default_factory=dict)


class Card(BaseModel):
    """A champion's description, origin and quality.

    Attributes:
      dataset: The data set's name.
      version: Number in the registry that the champion was written from.
      weights_sha256: Of `WEIGHTS`.
      model: The value of ``train.model``.
      accuracy: On the test images; None if it is not known.
      metrics: The run's last values.
      classes: Rows of the table of classes; empty if the run has none.
      data: Its training and test data.
      params: The params of its training, flat.
      run: The run's name.
      commit: The commit of its results.
      tag: The tag in git that keeps that commit.
      ci_run: Address of the CI run.
      pull_request: Address of the pull request.
      origin: Where the registry that it was written from had it from; None if it was trained there.
      files: SHA-256 of each file of the folder, besides the card.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: DatasetName
    version: int
    weights_sha256: Sha256
    model: str
    accuracy: float | None
    metrics: Mapping[str, float]
    classes: Table
    data: Data
    params: Mapping[str, str]
    run: str
    commit: str
    tag: str | None = None
    ci_run: str | None = None
    pull_request: str | None = None
    origin: str | None = None
    files: Mapping[str, Sha256]

    @property
    def name(self) -> str:
        """Registered model and version."""
        return f"{registered_model(self.dataset)} version {self.version}"

    @staticmethod
    def read(path: Path, source: str) -> "Card":
        """Reads card.json.

        Args:
          path: The file.
          source: Where it came from, for the message.

        Raises:
          PipelineError: It is missing, or is no card.
        """
        return read_json(
            Card,
            path,
            missing=f"{source} is no champion that `make champion` wrote",
            wrong=f"is no card of a champion: have {source} written again by `make champion`",
        )

    def json_text(self) -> str:
        """The text of card.json."""
        return self.model_dump_json(indent=2) + "\n"

    def markdown(self) -> str:
        """The text of card.md."""
        facts = {
            "data set": self.dataset,
            "model": self.model,
            "accuracy on the test images": f"{self.accuracy:.4f}" if self.accuracy is not None else "not known",
            "SHA-256 of the weights": f"`{self.weights_sha256}`",
            "commit of the results": f"`{self.commit}`",
            "tag in git": f"`{self.tag}`" if self.tag else None,
            "CI run": self.ci_run,
            "pull request": self.pull_request,
            "run in MLflow": self.run,
            "origin": self.origin,
        }
        data = {
            "clients' shards": self.data.shards_sha256,
            "test images and labels": self.data.test_set_sha256,
            "ledger of the pool": self.data.pool_sha256,
            **{f"batch {name}": digest for name, digest in self.data.batches.items()},
        }
        parts = [
            f"# {self.name}",
            _table(["", ""], [[key, value] for key, value in facts.items() if value]),
            *(
                ["## Classes", _table(list(self.classes[0]), [list(row.values()) for row in self.classes])]
                if self.classes
                else []
            ),
            "## Data",
            _table(["", "SHA-256"], [[key, f"`{value}`"] for key, value in data.items() if value]),
            "## Params",
            _table(["param", "value"], [[f"`{key}`", f"`{value}`"] for key, value in sorted(self.params.items())]),
        ]
        return "\n\n".join(parts) + "\n"


def table_of(text: str | None) -> Table:
    """The rows of a CSV file; none without a text."""
    return list(csv.DictReader(io.StringIO(text))) if text else []


def _table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown; a bar or line break inside a cell would end it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(' '.join(cell.split()).replace('|', '&#124;') for cell in line)} |" for line in lines
    )
