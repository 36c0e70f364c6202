"""Moving the champion: forward, with a memory of who was champion before, and back.

All of it is called under `fedpipe.tracking.lock.registry_lock`. The alias is moved after the tags are written, so that
a process killed in between leaves the old champion, and doing it again puts the tags right.
"""

import json
from collections.abc import Mapping
from typing import Any

from fedpipe.errors import PipelineError
from fedpipe.tracking.late_params import log_late_params
from fedpipe.tracking.registry import CHAMPION, Registry, Version, dataset_of, registered_model
from fedpipe.tracking.run_events import flat_params

ROLLED_BACK_TAG = "fedpipe.rolled_back"
DECISION_TAG = "fedpipe.promotion"
JUDGED_TAG = "fedpipe.judged"
FORMER_TAG = "fedpipe.former_champions"  # of the registered model: numbers, oldest first
_FOLLOWED_TAG = "fedpipe.followed"  # of the registered model: the weights that git's marker named last


def record(registry: Registry, dataset: str, number: int, decision: str, description: str) -> None:
    """Writes a decision on a version: as JSON in a tag, and as text that the MLflow UI shows.

    Raises:
      PipelineError: MLflow cannot be reached or refuses.
    """
    with registry.readable_errors():
        name = registered_model(dataset)
        registry.client().set_model_version_tag(name, str(number), DECISION_TAG, decision)
        about = registry.describe(registry.client().get_model_version(name, str(number)))
        registry.client().update_model_version(name, str(number), f"{about}\n\n{description}")


def record_judged(registry: Registry, dataset: str, number: int, judgement: str) -> None:
    """Writes on a version that and how it was judged (`judgement`): a promotion's last step, whatever its outcome.

    The run of the version gets the rules as params ``promote.*``.

    Raises:
      PipelineError: MLflow cannot be reached or refuses.
    """
    rules = flat_params({"promote": json.loads(judgement)["rules"]})
    with registry.readable_errors():
        client, name = registry.client(), registered_model(dataset)
        log_late_params(client, client.get_model_version(name, str(number)).run_id, rules)
        client.set_model_version_tag(name, str(number), JUDGED_TAG, judgement)


def judgement(champion: int | None, rules: Mapping[str, Any], test_set_sha256: str) -> str:
    """The criteria by which a version was judged. Where one has changed, the version has to be judged again.

    Args:
      champion: The number of the resulting champion; None if there is none.
      rules: Section ``promote`` of params.yaml.
      test_set_sha256: Tells the test images from others.
    """
    return json.dumps({"champion": champion, "rules": dict(rules), "test_set_sha256": test_set_sha256}, sort_keys=True)


def promote(registry: Registry, dataset: str, number: int, expected: int | None) -> None:
    """Makes version ``number`` the champion in place of ``expected`` (None: of none), and remembers that one.

    Raises:
      PipelineError: Another one is champion by now, or MLflow cannot be reached or refuses.
    """
    present = registry.champion(dataset)
    name = registered_model(dataset)
    if (present.number if present else None) != expected:
        raise PipelineError(f"another machine moved the champion of {name} in the meantime: run the promotion again")
    with registry.readable_errors():
        if expected is not None:
            _remember(registry, name, [*(older for older in _former(registry, dataset) if older != expected), expected])
        registry.client().delete_model_version_tag(name, str(number), ROLLED_BACK_TAG)
        _make_champion(registry, name, number)


def step_back(registry: Registry, dataset: str) -> tuple[Version, Version]:
    """Makes the former champion the champion again.

    Returns:
      The version that was champion, and the one that is.

    Raises:
      PipelineError: There is no former champion, or MLflow cannot be reached or refuses.
    """
    present = registry.require_champion(dataset)
    with registry.readable_errors():
        former = _former(registry, dataset)
    while former:
        target = registry.version(dataset, former.pop())
        if target and target.number != present.number:  # else it was deleted, or a rollback was cut short
            break
    else:
        raise PipelineError(f"{present} is the first champion: there is none before it to go back to")
    _go_back(registry, present, target, former)
    return present, target


def follow(registry: Registry, dataset: str, target: Version) -> bool:
    """Makes ``target`` the champion because git names it, and remembers that it did.

    Where ``target`` was champion before the present one, this is a rollback, and the present one counts as rolled back.

    Returns:
      Whether the champion changed.

    Raises:
      PipelineError: MLflow cannot be reached or refuses.
    """
    present = registry.champion(dataset)
    moves = present is None or present.number != target.number
    if moves:
        with registry.readable_errors():
            former = _former(registry, dataset)
        if present is not None and target.number in former:
            _go_back(registry, present, target, former[: former.index(target.number)])
        else:
            promote(registry, dataset, target.number, present.number if present else None)
    record_followed(registry, dataset, target.weights_sha256)
    return moves


def followed(registry: Registry, dataset: str) -> str | None:
    """The weights that git's marker named when it was followed last; None if it never was. Raises as `follow`."""
    with registry.readable_errors():
        model = registry.registered(dataset)
        return model.tags.get(_FOLLOWED_TAG) if model else None


def record_followed(registry: Registry, dataset: str, weights_sha256: str) -> None:
    """Notes that nothing is left to do for a marker that names these weights. Raises as `follow`."""
    registry.require_model(dataset)
    with registry.readable_errors():
        registry.client().set_registered_model_tag(registered_model(dataset), _FOLLOWED_TAG, weights_sha256)


def _go_back(registry: Registry, present: Version, target: Version, former: list[int]) -> None:
    with registry.readable_errors():
        registry.client().set_model_version_tag(
            present.name, str(present.number), ROLLED_BACK_TAG, f"to {target.number}"
        )
        _make_champion(registry, present.name, target.number)
        _remember(registry, present.name, former)


def _make_champion(registry: Registry, name: str, number: int) -> None:
    """Moves the alias, and names the champion in the description of the registered model."""
    client = registry.client()
    client.set_registered_model_alias(name, CHAMPION, str(number))
    about = registry.describe(client.get_model_version(name, str(number)))
    client.update_registered_model(
        name, f"Federated learning on {dataset_of(name)}. Champion: version {number}. {about}"
    )


def former(registry: Registry, dataset: str) -> list[int]:
    """The numbers of the champions before the present one, oldest first. Raises as `follow`."""
    with registry.readable_errors():
        return _former(registry, dataset)


def _former(registry: Registry, dataset: str) -> list[int]:
    model = registry.registered(dataset)
    return json.loads(model.tags.get(FORMER_TAG, "[]")) if model else []


def _remember(registry: Registry, name: str, former: list[int]) -> None:
    registry.client().set_registered_model_tag(name, FORMER_TAG, json.dumps(former))
