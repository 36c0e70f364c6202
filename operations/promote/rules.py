"""The rules of a promotion, each a function of measurements: no file, no model, no registry."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fedpipe.config import Promote
from fedpipe.config.judge import McNemar


@dataclass(frozen=True)
class Measured:
    """What one version does on the present data.

    Attributes:
      right: bool [test images], whether it knows each one; where labels are numbers, float64, how right it is
        (`Network.goodness`).
      worst_client: The lowest accuracy among the clients; None if it is withheld (`docs/privacy.md`).
      clients_on: The samples that a client's accuracy is measured on, in words; the same for both versions.
      sites: The accuracy on the held-out samples of each site of a federation that tells it; empty elsewhere.
    """

    right: np.ndarray
    worst_client: float | None
    clients_on: str
    sites: Mapping[str, float] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """The share of test images that it knows, or R^2 where labels are numbers."""
        return float(self.right.mean())


@dataclass(frozen=True)
class Rule:
    """A rule applied: whether it holds, and a sentence with both figures."""

    name: str
    holds: bool
    sentence: str


def judge(settings: Promote, challenger: Measured, champion: Measured) -> list[Rule]:
    """Applies all rules; the challenger is promoted if all hold. One whose figures are withheld is left out."""
    ours, theirs = challenger.worst_client, champion.worst_client
    of_clients = (
        []
        if ours is None or theirs is None
        else [worst_client(ours, theirs, settings.worst_client_margin, challenger.clients_on)]
    )
    if not of_clients and challenger.sites and challenger.sites.keys() == champion.sites.keys():
        of_clients = [worst_site(challenger.sites, champion.sites, settings.worst_client_margin)]
    return [
        accuracy(challenger.accuracy, champion.accuracy, settings.accuracy_margin),
        *of_clients,
        mcnemar(challenger.right, champion.right, settings.mcnemar),
    ]


def accuracy(challenger: float, champion: float, margin: float) -> Rule:
    """Holds if challenger > champion - margin: with margin 0, a tie keeps the champion."""
    holds = _lower_by(challenger, champion) < margin
    compared = f"{'' if holds else 'not '}above {_bound(champion, margin)}"
    return Rule("accuracy", holds, f"test accuracy {challenger:.4f} is {compared}")


def worst_client(challenger: float, champion: float, margin: float, clients_on: str) -> Rule:
    """Holds if challenger >= champion - margin, for the client that each does worst for, measured on ``clients_on``."""
    holds = _lower_by(challenger, champion) <= margin
    compared = f"{'not ' if holds else ''}below {_bound(champion, margin)}"
    return Rule("worst_client", holds, f"the worst client's accuracy {challenger:.4f} on {clients_on} is {compared}")


def worst_site(challenger: Mapping[str, float], champion: Mapping[str, float], margin: float) -> Rule:
    """As `worst_client`, for sites of a federation that tell of all their clients' held-out samples together."""
    worst, theirs = min(challenger, key=lambda site: challenger[site]), min(champion.values())
    ours = challenger[worst]
    holds = _lower_by(ours, theirs) <= margin
    compared = f"{'not ' if holds else ''}below {_bound(theirs, margin)}"
    return Rule(
        "worst_site", holds, f"the worst site's accuracy {ours:.4f} ({worst}) on held-out samples is {compared}"
    )


def mcnemar(challenger: np.ndarray, champion: np.ndarray, settings: McNemar) -> Rule:
    """McNemar's test, exact and one-sided, on the images that only one of the two knows.

    If both were equally good, the number that only the challenger knows would be Binomial(n, 1/2) with n the number of
    discordant images. ``not_worse`` holds unless so few or fewer have a probability below the level; ``better`` holds
    if so many or more have one.

    Source: McNemar 1947, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12; the exact binomial form is the sign test on the discordant pairs (Conover 1999, "Practical
    Nonparametric Statistics", section 3.5).

    Args:
      challenger: bool [test images], whether the challenger knows each one; of numbers, how right it is, and then the
        images count that one of the two is more right about.
      champion: The same of the champion.
      settings: Level, and the required one of the two.
    """
    gained, lost = int((challenger > champion).sum()), int((champion > challenger).sum())
    wants_better = settings.require == "better"
    p = _tail(gained, gained + lost, "greater" if wants_better else "less")
    holds = p < settings.level if wants_better else p >= settings.level
    claim = ("" if holds == wants_better else "not ") + "significantly " + ("better" if wants_better else "worse")
    if challenger.dtype == np.bool_:
        counted, test = "test images are known to the challenger only and {lost} to the champion only", "exact McNemar"
    else:
        counted, test = "predictions of the challenger are closer and {lost} of the champion", "sign test"
    sentence = f"{gained} {counted.format(lost=lost)}: {claim} ({test}, p = {p:.3g}, level {settings.level:g})"
    return Rule("mcnemar", holds, sentence)


def _bound(champion: float, margin: float) -> str:
    return f"the champion's {champion:.4f}" + (f" less {margin:g}" if margin else "")


def _lower_by(challenger: float, champion: float) -> float:
    """How much lower the challenger is; rounded, since 0.79 - 0.78 is not quite 0.01 in floating point."""
    return round(champion - challenger, 12)


def _tail(gained: int, discordant: int, alternative: str) -> float:
    from scipy.stats import binomtest  # type: ignore[import-untyped]

    return float(binomtest(gained, discordant, 0.5, alternative=alternative).pvalue) if discordant else 1.0
