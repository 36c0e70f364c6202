"""What was decided and why: for a person, for MLflow, and as JSON for whatever comes next."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from fedpipe.tracking.registry import Version
from operations.promote.rules import Measured, Rule

Outcome = Literal["promoted", "kept", "rolled_back"]


@dataclass(frozen=True)
class Contender:
    """A version and, where it was measured, its figures."""

    version: int
    run_id: str
    weights_sha256: str
    accuracy: float | None = None
    worst_client: float | None = None
    clients_on: str | None = None  # the samples on which the accuracy of the worst client is measured

    @staticmethod
    def of(version: Version, measured: Measured | None = None) -> "Contender":
        """The figures of ``version``."""
        figures = (measured.accuracy, measured.worst_client, measured.clients_on) if measured else ()
        return Contender(version.number, version.run_id, version.weights_sha256, *figures)


@dataclass(frozen=True)
class Decision:
    """The outcome of a promotion or a rollback.

    Attributes:
      model: The registered model.
      subject: The version that it is about and is recorded on: the challenger, or the one that was rolled back.
      outcome: ``promoted``, ``kept`` (the champion stays) or ``rolled_back``.
      reason: One sentence.
      challenger: The version that was to become champion; None in a rollback.
      champion: The champion before; None if there was none.
      champion_now: The number of the champion after; None if there is none.
      rules: What was compared; empty if it did not come to that.
      notes: Sentences on what to keep in mind.
      test_set_sha256: The test images that both were measured on; None if they were not.
    """

    model: str
    subject: int
    outcome: Outcome
    reason: str
    challenger: Contender | None
    champion: Contender | None
    champion_now: int | None
    rules: Sequence[Rule] = ()
    notes: Sequence[str] = ()
    test_set_sha256: str | None = None

    def json(self) -> str:
        """All of it, as JSON."""
        return json.dumps(asdict(self), indent=2) + "\n"

    def lines(self) -> list[str]:
        """The outcome, and one line per rule and note, for a terminal."""
        rules = [f"  {'holds' if rule.holds else 'fails'}  {rule.name}: {rule.sentence}" for rule in self.rules]
        return [
            f"{self.outcome.replace('_', ' ')}: {self.reason}",
            *rules,
            *(f"  note   {note}" for note in self.notes),
        ]

    def markdown(self) -> str:
        """The same as text that the MLflow UI shows on the version's page."""
        items = [f"- {'✓' if rule.holds else '✗'} **{rule.name}**: {rule.sentence}" for rule in self.rules]
        return "\n".join(
            [f"**{self.outcome.replace('_', ' ')}**: {self.reason}", "", *items, *(f"- {note}" for note in self.notes)]
        ).rstrip()
