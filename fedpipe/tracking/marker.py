"""The champion that git names: models/champion.json.

The registry is outside of git, and may be lost or be another one. The marker says which weights are champion, so that a
merge can make them champion, and an empty registry is noticed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from fedpipe.datasets import pool
from fedpipe.datasets.pool import Pool
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import PipelineError
from fedpipe.tracking.registry import registered_model

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Marker(BaseModel):
    """Which weights are champion, and what they were trained on.

    Attributes:
      weights_sha256: Of the champion's weights; None if there has been no champion yet.
      model: The registered model.
      accuracy: Test accuracy when the weights were registered; None if it is not known.
      pool: Digest of the pool's ledger that they were trained with.
      batches: SHA-256 of each batch in that ledger.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights_sha256: Sha256 | None = None
    model: str | None = None
    accuracy: float | None = None
    pool: Sha256 | None = None
    batches: Mapping[str, Sha256] = Field(default_factory=dict)

    @staticmethod
    def parse(text: str, source: str) -> "Marker":
        """Reads a marker.

        Args:
          text: JSON.
          source: Where it is from, for the message.

        Raises:
          PipelineError: It is no marker.
        """
        try:
            return Marker.model_validate_json(text)
        except ValidationError as error:
            wrong = error.errors()[0]
            key = ".".join(str(part) for part in wrong["loc"]) or "the file"
            raise PipelineError(
                f"{source} does not name a champion ({key}: {wrong['msg']}): restore the version before it with git"
            ) from None

    @staticmethod
    def read(path: Path) -> "Marker":
        """Reads a marker from its file; one without a champion where there is no file.

        Raises:
          PipelineError: As `parse`.
        """
        return Marker.parse(path.read_text(encoding="utf-8"), str(path)) if path.exists() else Marker()

    @staticmethod
    def of_results(dataset: RawDataset, batches: Pool, weights_sha256: str, accuracy: float) -> "Marker":
        """The marker of weights that were trained on a data set and the batches of a pool.

        Raises:
          PipelineError: The pool's ledger cannot be read.
        """
        entries = pool.of_dataset(batches.read_ledger(), dataset)
        return Marker(
            weights_sha256=weights_sha256,
            model=registered_model(dataset.name),
            accuracy=accuracy,
            pool=pool.digest(entries),
            batches={entry.batch: entry.sha256 for entry in pool.present(entries)},
        )

    def text(self) -> str:
        """The text of its file."""
        if self.weights_sha256 is None:
            return self.model_dump_json(indent=2, include={"weights_sha256"}) + "\n"
        return self.model_dump_json(indent=2) + "\n"
