"""The champion that git names: follows HEAD's marker, and writes the marker of a version."""

import json
import os
import sys

import layout
from fedpipe import params
from fedpipe.atomic import write_text
from fedpipe.datasets.ledger import present
from fedpipe.errors import PipelineError
from fedpipe.tracking import champions
from fedpipe.tracking.marker import Marker
from fedpipe.tracking.outbox import without_password
from fedpipe.tracking.registry import ACCURACY_TAG, COMMIT_TAG, POOL_TAG, Version, dataset_of
from layout import CHAMPION_MARKER
from operations import commands
from operations.committed import ledger_at


def of_head() -> Marker:
    """The marker of the last commit; one without a champion if that commit has none.

    Raises:
      PipelineError: The folder is in no git repository, or the file is no marker.
    """
    return marker_at("HEAD")


def marker_at(revision: str) -> Marker:
    """The marker of a commit; one without a champion if the commit has none. Raises as `of_head`."""
    text = commands.committed(CHAMPION_MARKER, revision)
    return Marker() if text is None else Marker.parse(text, f"{CHAMPION_MARKER} of {revision[:12]}")


# Of a workflow whose job promote runs in an environment of GitHub, with reviewers perhaps: no other job moves the
# champion.
ENVIRONMENT = "FEDPIPE_ENVIRONMENT"


def is_guarded() -> bool:
    """Whether the champion moves in another job only, which may need somebody's approval."""
    return bool(os.environ.get(ENVIRONMENT))


def follow(again: bool = False, insist: bool = True, back: bool = True) -> str:
    """Makes the version that HEAD's marker names the champion. Call it under the registry's lock.

    Args:
      again: Whether a version that was rolled back may be champion again.
      insist: Whether to follow a marker that was followed before, although the registry has moved since.
      back: Whether to go back to a former champion. An old checkout names one, too.

    Returns:
      A sentence on what it did, or on why there was nothing to do.

    Raises:
      PipelineError: The registry lacks the version, or the version was rolled back.
    """
    marker, registry = of_head(), layout.registry()
    if marker.weights_sha256 is None or marker.model is None:
        return _without_champion()
    dataset = dataset_of(marker.model)
    champion = registry.champion(dataset)
    if champion and champion.weights_sha256 == marker.weights_sha256:
        if champions.followed(registry, dataset) != marker.weights_sha256:
            champions.record_followed(registry, dataset, marker.weights_sha256)
        return f"{champion} is the champion that {CHAMPION_MARKER} of HEAD names"
    if not insist and champions.followed(registry, dataset) == marker.weights_sha256:
        return (
            f"the champion is {champion or 'none'}, and no longer the one that {CHAMPION_MARKER} of HEAD names: merge "
            "or commit the file that the promotion wrote"
        )
    target = registry.version_of_weights(dataset, marker.weights_sha256)
    if target is None:
        return _missing(marker.weights_sha256, insist)
    if champions.ROLLED_BACK_TAG in target.tags and not again:
        raise PipelineError(
            f"{CHAMPION_MARKER} of HEAD names {target}, which was rolled back: commit the file that the rollback "
            'wrote, or make it champion again with `make promote ARGS="--merged --again"`'
        )
    if not back and target.number in champions.former(registry, dataset):
        return (
            f"{target}, which {CHAMPION_MARKER} of HEAD names, was champion before {champion or 'none'}: if that is to "
            "be taken back, run `make promote ARGS=--merged`; else this is an old checkout"
        )
    if is_guarded():
        return (
            f"{target}, which {CHAMPION_MARKER} of HEAD names, waits for the job promote; {champion or 'none'} is "
            "champion"
        )
    champions.follow(registry, dataset, target)
    return f"{target} is champion now: {CHAMPION_MARKER} of HEAD names it"


def to_register() -> str | None:
    """SHA-256 of the champion that HEAD's marker names, if the registry lacks it and HEAD's results are of it.

    So it is where a pull request was merged whose registration did not outlive its job. A retraining gives these bits
    again, and `make publish` registers them.

    Raises:
      PipelineError: MLflow cannot be reached.
    """
    marker, registry = of_head(), layout.registry()
    if marker.weights_sha256 is None or marker.model is None or not _has_results_of(marker.weights_sha256):
        return None
    dataset = dataset_of(marker.model)
    is_known = registry.version_of_weights(dataset, marker.weights_sha256) is not None
    is_given_up = champions.followed(registry, dataset) == marker.weights_sha256
    return None if is_known or is_given_up else marker.weights_sha256


def _missing(weights_sha256: str, insist: bool) -> str:
    """What to say, or to raise, of a champion that the registry lacks."""
    lacking = (
        f"{CHAMPION_MARKER} of HEAD names a champion ({weights_sha256[:12]}…) that "
        f"{without_password(layout.store())} does not have"
    )
    others = (
        "restore it with `make champion FROM=...`, or start anew with `make retrain ARGS=--start-anew` (in GitHub "
        "Actions: the inputs champion_from and start_anew)"
    )
    if not _has_results_of(weights_sha256):
        raise PipelineError(f"{lacking}: {others}")
    remedy = "the results of HEAD are of it, so `make retrain` makes it again, and `make publish` registers it"
    if insist:
        raise PipelineError(f"{lacking}: {remedy} (in GitHub Actions: the next run of the job retrain); or {others}")
    return f"{lacking}: {remedy}"


def _has_results_of(weights_sha256: str) -> bool:
    """Whether HEAD's results are those of these weights."""
    try:
        text = commands.committed(layout.TRAINING)
        return bool(text and json.loads(text)["weights_sha256"] == weights_sha256)
    except (PipelineError, ValueError, KeyError, TypeError):  # no results, or none that can be read
        return False


def _without_champion() -> str:
    """What to say where HEAD's marker names nobody: the registry's champion, if there is one, stays."""
    nobody = f"{CHAMPION_MARKER} of HEAD names no champion"
    champion = layout.registry().champion(params.load(params.Download, layout.PARAMS).name)
    if champion is None:
        return nobody
    return (
        f"{nobody}, but {champion} is champion, and stays so until another model is: if it is to stay, run `make "
        f"promote`, which writes {CHAMPION_MARKER}, and commit that file; if the revert of the first promotion was to "
        "take it back, delete the alias champion in MLflow"
    )


def start_anew() -> None:
    """Lets a registry without the champion that HEAD's marker names begin with no champion.

    Raises:
      PipelineError: The registry has a champion or MLflow cannot be reached.
    """
    marker, registry = of_head(), layout.registry()
    if marker.weights_sha256 is None or marker.model is None:
        return
    dataset = dataset_of(marker.model)
    if registry.version_of_weights(dataset, marker.weights_sha256) is not None:
        raise PipelineError(
            f"{without_password(layout.store())} has the champion that {CHAMPION_MARKER} of HEAD names, so there is "
            "nothing to start anew: leave --start-anew (the input start_anew) out"
        )
    champions.record_followed(registry, dataset, marker.weights_sha256)


def moves_without_git(dataset: str) -> None:
    """Notes that the registry's champion moves knowingly, so that HEAD's marker does not move it back."""
    marker = _of_head_if_any()
    if marker.weights_sha256 and marker.model and dataset_of(marker.model) == dataset:
        champions.record_followed(layout.registry(), dataset, marker.weights_sha256)


def is_named(version: Version) -> bool:
    """Whether HEAD's marker names the weights of ``version``."""
    return _of_head_if_any().weights_sha256 == version.weights_sha256


def marker_of(version: Version) -> Marker:
    """The marker that makes ``version`` the champion where it is committed."""
    accuracy = version.tags.get(ACCURACY_TAG)
    return Marker(
        weights_sha256=version.weights_sha256,
        model=version.name,
        accuracy=float(accuracy) if accuracy else None,
        pool=version.tags.get(POOL_TAG),
        batches=_batches_at(version.tags.get(COMMIT_TAG, ""), dataset_of(version.name)),
    )


def write_marker(version: Version) -> None:
    """Writes the marker of ``version`` into the folder, and says that it is to be committed."""
    text = marker_of(version).text()
    if not CHAMPION_MARKER.is_file() or CHAMPION_MARKER.read_text(encoding="utf-8") != text:
        write_text(CHAMPION_MARKER, text)
    if text != _of_head_if_any().text():
        print(
            f"{CHAMPION_MARKER} names {version} now: commit it (`git add {CHAMPION_MARKER} && git commit`), since a "
            "retraining elsewhere follows the committed one",
            file=sys.stderr,
        )


def _of_head_if_any() -> Marker:
    """HEAD's marker; outside of a git repository, and where the file is no marker, one without a champion."""
    try:
        return of_head()
    except PipelineError:
        return Marker()


def _batches_at(commit: str, dataset: str) -> dict[str, str]:
    """SHA-256 of each batch in the ledger of a commit; none if this clone does not have the commit."""
    entries = ledger_at(commit) if commit else None
    return {entry.batch: entry.sha256 for entry in present(entries or []) if entry.dataset == dataset}
