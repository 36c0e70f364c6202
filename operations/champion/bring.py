"""A champion from elsewhere becomes a version of this registry, and its champion."""

from pathlib import Path

import layout
from fedpipe.errors import PipelineError
from fedpipe.networks.weights import load_weights
from fedpipe.tracking import champions
from fedpipe.tracking.ci import RUN_TAG
from fedpipe.tracking.lock import registry_lock
from fedpipe.tracking.mlflow_store import MlflowStore
from fedpipe.tracking.registry import (
    ACCURACY_TAG,
    CHALLENGER,
    COMMIT_TAG,
    DATA_TAG,
    GIT_TAG,
    MODEL_TAG,
    ORIGIN_TAG,
    POOL_TAG,
    PULL_REQUEST_TAG,
    TEST_SET_TAG,
    Registry,
    Version,
)
from fedpipe.tracking.run_events import WEIGHTS_TAG
from fedpipe.tracking.version_run import VersionRun, make_run
from operations.champion.card import Card
from operations.promote import git_champion


def bring(card: Card, weights: Path, source: str, replace: bool) -> Version:
    """Registers the weights and makes them champion; where they are already, nothing changes.

    Args:
      card: What they are.
      weights: The file, which is one of the card's SHA-256.
      source: Where it came from.
      replace: Whether it may take the place of another champion.

    Raises:
      PipelineError: Another model is champion, this checkout's code cannot load the weights, or MLflow refuses.
    """
    load_weights(weights)  # a model that this checkout does not have is named before anything is written
    registry = layout.registry()
    with registry_lock(layout.store()):
        champion = registry.champion(card.dataset)
        if champion and champion.weights_sha256 == card.weights_sha256:
            return champion
        if champion and not replace:
            raise PipelineError(
                f"{champion} ({champion.weights_sha256[:12]}…) is champion here, and {source} is another model "
                f"({card.weights_sha256[:12]}…): ARGS=--replace puts it in that one's place, and `make promote "
                "ARGS=--rollback` goes back"
            )
        version = _registered(registry, card, weights, source)
        return _made_champion(registry, card.dataset, version, champion)


def _registered(registry: Registry, card: Card, weights: Path, source: str) -> Version:
    origin = f"{card.name} of {source}" + (f", there from {card.origin}" if card.origin else "")
    optional = {
        ACCURACY_TAG: str(card.accuracy) if card.accuracy is not None else None,
        POOL_TAG: card.data.pool_sha256,
        GIT_TAG: card.tag,
        RUN_TAG: card.ci_run,
        PULL_REQUEST_TAG: card.pull_request,
    }
    tags = {
        WEIGHTS_TAG: card.weights_sha256,
        DATA_TAG: card.data.shards_sha256,
        TEST_SET_TAG: card.data.test_set_sha256,
        COMMIT_TAG: card.commit,
        MODEL_TAG: card.model,
        ORIGIN_TAG: origin,
        **{tag: value for tag, value in optional.items() if value},
    }
    run_tags = {"mlflow.source.git.commit": card.commit, ORIGIN_TAG: origin, DATA_TAG: card.data.shards_sha256}
    run = VersionRun(card.run, card.params, card.metrics, run_tags)
    with registry.readable_errors():
        run_id = make_run(MlflowStore(layout.store()), card.dataset, card.data.shards_sha256, run, weights)
    return registry.add_version(card.dataset, run_id, tags)


def _made_champion(registry: Registry, dataset: str, version: Version, former: Version | None) -> Version:
    if git_champion.is_named(version):
        champions.follow(registry, dataset, version)
    else:
        git_champion.moves_without_git(dataset)
        champions.promote(registry, dataset, version.number, former.number if former else None)
        git_champion.write_marker(version)
    if registry.challenger(dataset) is None:  # as after `make register promote`
        with registry.readable_errors():
            registry.client().set_registered_model_alias(version.name, CHALLENGER, str(version.number))
    return version
