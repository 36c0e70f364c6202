"""Asks sites how a model does on their clients' samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fedpipe.datasets.shards import Manifest
from fedpipe.errors import PipelineError, SitesLostError
from fedpipe.evaluation.fairness import spread
from fedpipe.evaluation.held_out import Sums, section
from fedpipe.federation.answers import Link, read_answer, shown
from fedpipe.federation.messages import Figures, Measure, pack
from fedpipe.federation.pinned_roster import PinnedRoster
from fedpipe.federation.secure_measuring import SecureMeasuring
from fedpipe.networks.network import Network, Weights
from fedpipe.samples.kind import Kind

_KINDS = ("train", "test")


@dataclass(frozen=True, eq=False)
class AtSites:
    """A model on the samples of all sites' clients, as far as these tell it."""

    sums: Mapping[str, Sums | None]  # over each site's held-out samples
    because: Mapping[str, str]  # why a site tells none
    together: Sums | None  # over the held-out samples of all sites that take part in a secure sum, if there is one
    clients: pd.DataFrame  # client, train_samples, train_accuracy, and test_samples and test_accuracy if all tell them

    def figures(self) -> dict[str, dict[str, Any]]:
        """For metrics/evaluation.json, by the samples on which they are measured: ``train`` and ``test``.

        Figures of single clients are there only if all sites tell them, since the spread over some would mislead.
        """
        train, test = dict[str, Any](), dict[str, Any]()
        if self.clients["train_samples"].notna().all():
            train["clients"] = spread(self.clients["train_accuracy"].to_numpy())
        if "test_accuracy" in self.clients:
            accuracies, samples = self.clients["test_accuracy"].to_numpy(), int(self.clients["test_samples"].sum())
            test["clients"] = {"samples": samples, **spread(accuracies)}
        held_out = {} if self.together is None else {"held_out": self.together.figures()}
        return {"train": train, "test": test | section(self.sums) | held_out}

    @property
    def accuracies(self) -> dict[str, float]:
        """The accuracy on the held-out samples of each site that tells it, or of all of them by a secure sum."""
        sums = {site: each for site, each in self.sums.items() if each is not None}
        if self.together is not None:
            sums["all sites together"] = self.together
        return {site: each.correct / each.samples for site, each in sums.items()}

    def sentence(self) -> str:
        """Which sites tell nothing of held-out samples, and why; empty if all tell it."""
        return "; ".join(f"{site}: {reason}" for site, reason in self.because.items())


def ask_sites(
    link: Link,
    manifest: Manifest,
    model: Network,
    weights: Weights,
    batch_size: int,
    quorum: int | None = None,
    roster: PinnedRoster | None = None,
) -> AtSites:
    """Asks all sites of ``manifest``.

    Args:
      link: Reaches the sites.
      manifest: Of the clients.
      model: The model.
      weights: Its weights.
      batch_size: Samples per forward pass.
      quorum: How many sites answer at least while others are lost; None where none may be lost.
      roster: Of the sites, where figures leave them in a secure sum only.

    Raises:
      PipelineError: A site has other shards, does not allow the model, or does not answer.
    """
    because: dict[str, str] = {}

    def lose(error: SitesLostError) -> None:
        because.update(dict.fromkeys(error.sites, "it is lost"))
        if quorum is None or len(manifest.sites or ()) - len(because) < quorum:
            raise error

    if roster is not None:
        measuring = SecureMeasuring(link, roster, manifest, model, weights, batch_size)
        total = measuring.total(lose)
        nothing = dict.fromkeys(site.name for site in manifest.sites or ())
        return AtSites(nothing, measuring.because, total, _table(manifest.clients, [{} for _ in nothing]))
    spec = model.spec.to_json()
    questions = {
        site.name: pack(Measure(spec=spec, batch_size=batch_size, digest=site.digest), weights)
        for site in manifest.sites or ()
    }
    answers = {name: read_answer(name, content, Figures) for name, content in link.ask(questions, lose)}
    sums: dict[str, Sums | None] = {}
    tables: dict[str, dict[str, np.ndarray]] = {}
    for site, own in manifest.ranges():
        if site.name in because:
            tables[site.name], sums[site.name] = {}, None
            continue
        figures, arrays = answers[site.name]
        tables[site.name] = _of_clients(site.name, len(own), figures, arrays, manifest.kind)
        sums[site.name] = None if figures.held_out is None else _sums(site.name, figures)
        if figures.held_out is None:
            because[site.name] = shown(figures.because)
    return AtSites(sums, because, None, _table(manifest.clients, [tables[site.name] for site in manifest.sites or ()]))


def _sums(site: str, figures: Figures) -> Sums:
    sums = Sums(figures.held_out.samples, figures.held_out.correct, figures.held_out.loss)  # type: ignore[union-attr]
    if sums.samples < 1 or not sums.correct <= sums.samples or not np.isfinite(sums.loss):
        raise PipelineError(f"{site}: its sums over held-out samples cannot be")
    return sums


def _of_clients(
    site: str, clients: int, figures: Figures, arrays: Sequence[np.ndarray], kind: Kind
) -> dict[str, np.ndarray]:
    """[clients, 2], samples and correct ones, by the samples on which they are measured."""
    wanted = np.dtype(np.int64 if kind.label_kind == "classes" else np.float64)
    if len(arrays) != len(figures.clients) or len(set(figures.clients)) < len(figures.clients):
        raise PipelineError(f"{site}: its figures of clients are not as many as it says")
    for array in arrays:
        if array.dtype != wanted or array.shape != (clients, 2):
            raise PipelineError(f"{site}: its figures of clients are not {wanted} [{clients}, 2]")
        if not np.isfinite(array).all() or (array[:, 0] < 0).any() or (array[:, 1] > array[:, 0]).any():
            raise PipelineError(f"{site}: a client of it has more correct samples than samples")
        if kind.label_kind == "classes" and (array[:, 1] < 0).any():
            raise PipelineError(f"{site}: a client of it has more correct samples than samples")
    return dict(zip(figures.clients, arrays, strict=True))


def _table(clients: int, of_sites: Sequence[Mapping[str, np.ndarray]]) -> pd.DataFrame:
    """One row per client, as `evaluate` has it of samples that are here; empty where not all sites tell it."""
    columns: dict[str, object] = {"client": range(clients), "train_samples": None, "train_accuracy": np.nan}
    for kind in _KINDS:
        if not all(kind in own for own in of_sites):
            break
        samples, correct = np.concatenate([own[kind] for own in of_sites]).T
        accuracy = np.divide(correct, samples, out=np.full(clients, np.nan), where=samples > 0)
        columns |= {f"{kind}_samples": samples, f"{kind}_accuracy": accuracy}
    return pd.DataFrame(columns)
