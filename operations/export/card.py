"""The card of an export, card.json beside it: which model it is, and how far it is from this project's predictions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from fedpipe.json_model import read_json

CARD = "card.json"


class ExportCard(BaseModel):
    """What an export is.

    Attributes:
      format: Its format.
      file: The name of the file or folder beside the card.
      weights_sha256: Of the file of weights that it was made from.
      model: The value of ``train.model``.
      input: Type and shape of samples, such as ``uint8 [n, 28, 28, 1]``.
      output: The same of predictions.
      classes: Number of classes; 0 where labels are numbers.
      encoding: How a user's samples become those that the model takes, where they are standardised or rows of a table.
      commit: The commit of the checkout.
      compared: The samples whose predictions were compared.
      largest_difference: Of two probabilities or numbers.
      other_labels: Samples that get another label.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: str
    file: str
    weights_sha256: str
    model: str
    input: str
    output: str
    classes: int
    encoding: Mapping[str, Any] = Field(default_factory=dict)
    commit: str
    compared: str
    largest_difference: float
    other_labels: int

    @staticmethod
    def read(path: Path) -> "ExportCard":
        """Reads a card.

        Raises:
          PipelineError: It is missing, or is no card of an export.
        """
        return read_json(
            ExportCard, path, missing=f"{path} is missing", wrong="is no card of an export: run `make export` again"
        )
