"""A person's decisions about batches on hold: data/pool/decisions.csv, in git.

Git holds the decision and not the batch: a workflow starts in an empty folder, fetches the batch again, and finds here
by its name and SHA-256 whether it may join the pool.

  batch,sha256,decision,reason      decision: released | rejected; of several rows for a batch the last one counts
"""

import csv
import io
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from fedpipe.atomic import write_text
from fedpipe.config.mistakes import mistakes
from fedpipe.datasets.pool import BATCH_NAME
from fedpipe.errors import PipelineError


class Decision(BaseModel):
    """A row: what becomes of a batch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch: Annotated[str, StringConstraints(pattern=BATCH_NAME)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]  # of its file in the pool
    decision: Literal["released", "rejected"]
    reason: str


def read_decisions(path: Path) -> list[Decision]:
    """The decisions in the order in which they were made; none where the file is missing.

    Raises:
      PipelineError: A row is no decision; the message names the line.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    except FileNotFoundError:
        return []
    except UnicodeDecodeError:
        raise PipelineError(f"{path} is not a table of decisions: restore it with `git checkout {path}`") from None
    decisions = []
    for line, row in enumerate(rows, start=2):
        try:
            decisions.append(Decision.model_validate(row))
        except ValidationError as error:
            wrong = "; ".join(mistakes(error, Decision))
            raise PipelineError(f"{path}, line {line}: {wrong}; restore it with `git checkout {path}`") from None
    return decisions


def decided(decisions: list[Decision], batch: str, sha256: str) -> Decision | None:
    """The decision about a batch with this content, if there is one."""
    rows = [row for row in decisions if (row.batch, row.sha256) == (batch, sha256)]
    return rows[-1] if rows else None


def record(path: Path, decision: Decision) -> None:
    """Adds a decision, unless it is the present one already."""
    decisions = read_decisions(path)
    present = decided(decisions, decision.batch, decision.sha256)
    if present and present.decision == decision.decision:
        return
    text = io.StringIO()
    table = csv.DictWriter(text, list(Decision.model_fields), lineterminator="\n")
    table.writeheader()
    table.writerows(row.model_dump() for row in [*decisions, decision])
    write_text(path, text.getvalue())


def rejected_names(decisions: list[Decision]) -> set[str]:
    """The batches whose last decision is that they are rejected: fetched no more."""
    last = {row.batch: row.decision for row in decisions}
    return {batch for batch, decision in last.items() if decision == "rejected"}
