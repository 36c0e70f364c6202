"""The model of an earlier week whose pull request still waits for its merge, while a later model is kept."""

import layout
from fedpipe.tracking import champions
from fedpipe.tracking.registry import Version, dataset_of
from operations.promote import git_champion


def proposed_by(tip: str, weights_sha256: str, judged_by: str | None) -> Version | None:
    """The version that the commit ``tip`` makes champion, if merging it is still right.

    That is so if it is champion already, which HEAD does not name, or if it was judged by what models are judged by
    now: the same champion, rules and test images.

    Args:
      tip: A commit of a retraining.
      weights_sha256: Of the present model; a former proposal of the same is none.
      judged_by: The criteria by which the present model was judged.

    Raises:
      PipelineError: MLflow cannot be reached.
    """
    marker = git_champion.marker_at(tip)
    known = (weights_sha256, git_champion.of_head().weights_sha256)
    if marker.weights_sha256 is None or marker.model is None or marker.weights_sha256 in known:
        return None
    registry, dataset = layout.registry(), dataset_of(marker.model)
    version = registry.version_of_weights(dataset, marker.weights_sha256)
    if version is None:
        return None
    champion = registry.champion(dataset)
    if champion is not None and champion.number == version.number:
        return version
    is_current = judged_by is not None and version.tags.get(champions.JUDGED_TAG) == judged_by
    return version if is_current and champions.ROLLED_BACK_TAG not in version.tags else None
