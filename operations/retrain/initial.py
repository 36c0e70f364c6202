"""Which weights `train.init: champion` starts from; ``python -m operations.retrain.initial`` chooses them again.

They are chosen once for each state of the pool. If they followed the champion, a retraining that made a new champion
would have something to train on by that alone, for ever.
"""

import shutil
import sys
from collections.abc import Sequence

import layout
from fedpipe import params
from fedpipe.atomic import atomic_file, write_text
from fedpipe.datasets import pool
from fedpipe.datasets.pool import Entry, Pool
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import PipelineError, run_stage
from fedpipe.networks.spec import ModelSpec
from fedpipe.runtime.initial import Pointer, check_fit
from fedpipe.tracking import run_events
from layout import INITIAL, INITIAL_POINTER
from operations import commands
from operations.retrain.lock import exclusive_lock


def choose(settings: params.Train, dataset: RawDataset, entries: Sequence[Entry]) -> str | None:
    """Makes the champion's weights those to start from.

    Nothing is chosen where that was done for this data set and this pool, or ``init`` is fresh.

    Returns:
      What was chosen; None if nothing was.

    Raises:
      PipelineError: There is no champion, or it is another model.
    """
    if settings.init == "fresh":
        return None
    pointer = Pointer.read(INITIAL_POINTER)
    chosen_for = (pointer.model, pointer.pool)
    present = (run_events.experiment(dataset.name), pool.digest(pool.of_dataset(entries, dataset)))
    if pointer.sha256 and chosen_for == present:
        return None
    return _take_champion(settings, dataset, entries)


def _take_champion(settings: params.Train, dataset: RawDataset, entries: Sequence[Entry]) -> str:
    registry = layout.registry()
    champion = registry.champion(dataset.name)
    if champion is None:
        raise PipelineError(
            "params.yaml: 'train.init' is champion, but the model registry has no champion for "
            f"{dataset.name}: train once with 'train.init' fresh; the first model that is promoted is one"
        )
    weights = registry.kept_weights(champion)
    check_fit(weights, ModelSpec.of(settings, dataset.image_shape, dataset.classes))
    with atomic_file(INITIAL) as partial:
        shutil.copyfile(weights, partial)
    commands.dvc("add", str(INITIAL))
    pointer = Pointer(
        sha256=champion.weights_sha256,
        model=champion.name,
        version=champion.number,
        pool=pool.digest(pool.of_dataset(entries, dataset)),
    )
    # Last: it is what the train stage depends on.
    write_text(INITIAL_POINTER, pointer.model_dump_json(indent=2) + "\n")
    return str(champion)


def _main() -> None:
    with exclusive_lock():
        chosen = _take_champion(
            params.load(params.Train, layout.PARAMS), RawDataset.read(layout.RAW), Pool(layout.POOL).read_ledger()
        )
    print(f"training with 'train.init: champion' starts from {chosen}", file=sys.stderr)


if __name__ == "__main__":
    run_stage(_main)
