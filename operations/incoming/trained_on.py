"""Which models have seen samples: versions of the model registry, and tags in git."""

from collections.abc import Iterable, Sequence

import layout
from fedpipe.datasets import pool
from fedpipe.datasets.ledger import Entry
from fedpipe.errors import PipelineError
from fedpipe.tracking.registry import COMMIT_TAG, POOL_TAG, Version, registered_model
from fedpipe.tracking.sqlite_store import file_of
from operations import commands
from operations.committed import ledger_at

_POOL_VERSION_TAG = "fedpipe.pool_version"  # of a run


def models_trained_on(batches: Iterable[str], entries: Sequence[Entry], dataset: str) -> list[str]:
    """The models whose training had one of the batches, a phrase each; versions first.

    Args:
      batches: Their names.
      entries: The rows of the ledger.
      dataset: The data set's name.

    Raises:
      PipelineError: MLflow cannot be reached.
    """
    names = set(batches)
    rows = [entry for entry in entries if entry.dataset == dataset]
    return [*_versions(names, rows, dataset), *_tags(names, dataset)]


def _versions(names: set[str], rows: Sequence[Entry], dataset: str) -> list[str]:
    """The registry's versions, by the pool's digest in a tag, else the pool's version of the run, else the commit."""
    file = file_of(layout.store())
    if file is not None and not file.exists():
        return []
    registry = layout.registry()
    phrases = []
    with registry.readable_errors():
        listed = registry.client().search_model_versions(f"name = '{registered_model(dataset)}'")
    numbers = sorted(int(version.version) for version in listed)
    for version in filter(None, (registry.version(dataset, number) for number in numbers)):
        commit = version.tags.get(COMMIT_TAG, "unknown")
        former = _trained_with(version, rows, commit)
        if former is None:
            phrases.append(f"{version} (perhaps: nothing says with which pool it was trained)")
        elif names & {entry.batch for entry in pool.present(former)}:
            phrases.append(f"{version} (pool version {pool.version(former)}, commit {commit[:12]})")
    return phrases


def _trained_with(version: Version, rows: Sequence[Entry], commit: str) -> list[Entry] | None:
    """The rows of the ledger that a version was trained with; None where nothing says which."""
    if digest := version.tags.get(POOL_TAG):
        for count in range(len(rows) + 1):
            if pool.digest(rows[:count]) == digest:
                return list(rows[:count])
    registry = layout.registry()
    with registry.readable_errors():
        number = registry.client().get_run(version.run_id).data.tags.get(_POOL_VERSION_TAG, "unknown")
    if number.isdecimal():
        return [entry for entry in rows if entry.version <= int(number)]
    return ledger_at(commit)


def _tags(names: set[str], dataset: str) -> list[str]:
    """The tags ``models/<data set>/v<N>`` in git whose ledger has one of the batches."""
    try:
        listed = commands.git("for-each-ref", "--format=%(refname:short)", f"refs/tags/models/{dataset}/").split()
    except PipelineError:  # no repository
        return []
    seen = []
    for tag in listed:
        former = ledger_at(tag)
        if former and names & {entry.batch for entry in pool.present(former)}:
            seen.append(f"git tag {tag}")
    return seen
