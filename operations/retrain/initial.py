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
from fedpipe.tracking.registry import Version
from layout import INITIAL, INITIAL_POINTER
from operations import commands
from operations.retrain.lock import exclusive_lock


def choose(
    settings: params.Train,
    partition: params.Partition,
    dataset: RawDataset,
    entries: Sequence[Entry],
    held_out_clients: int | float = 0,
) -> str | None:
    """Makes the champion's weights those to start from.

    Nothing is chosen where that was done for this data set and this pool, or ``init`` is another one.

    Returns:
      The choice; None without one.

    Raises:
      PipelineError: There is no champion, it is another model, or it was trained on what are validation samples or
        held-out clients now.
    """
    if settings.init != "champion":
        return None
    pointer = Pointer.read(INITIAL_POINTER)
    chosen_for = (pointer.model, pointer.pool)
    present = (run_events.experiment(dataset.name), pool.digest(pool.of_dataset(entries, dataset)))
    if pointer.sha256 and chosen_for == present:
        if (partition.validation or held_out_clients) and pointer.version:
            champion = layout.registry().version(dataset.name, pointer.version)
            _require_unseen_validation(partition, champion)
            _require_unseen_clients(partition, held_out_clients, champion)
        return None
    return _take_champion(settings, partition, dataset, entries, held_out_clients)


def _take_champion(
    settings: params.Train,
    partition: params.Partition,
    dataset: RawDataset,
    entries: Sequence[Entry],
    held_out_clients: int | float,
) -> str:
    registry = layout.registry()
    champion = registry.champion(dataset.name)
    if champion is None:
        raise PipelineError(
            "params.yaml: 'train.init' is champion, but the model registry has no champion for "
            f"{dataset.name}: train once with 'train.init' fresh; the first model that is promoted is one"
        )
    _require_unseen_validation(partition, champion)
    _require_unseen_clients(partition, held_out_clients, champion)
    weights = registry.kept_weights(champion)
    check_fit(weights, ModelSpec.of(settings, *dataset.kind))
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


def _require_unseen_validation(partition: params.Partition, champion: Version | None) -> None:
    """Compares the validation split with that of the champion's training, as its run has it.

    With the same seed and no more samples, the present validation samples are among the former ones, or new
    (fedpipe/partitioning/validation_samples.py).
    """
    if not partition.validation or champion is None:
        return
    registry = layout.registry()
    with registry.readable_errors():
        trained = registry.client().get_run(champion.run_id).data.params
    validation, seed = trained.get("partition.validation", "0"), trained.get("partition.seed")
    if seed != str(partition.seed) or int(validation) < partition.validation:
        raise PipelineError(
            f"params.yaml: 'train.init' is champion, but {champion} was trained with 'partition.validation' "
            f"{validation} and 'partition.seed' {seed}, and so on samples that are validation samples now: set "
            "'partition.seed' to its value and 'partition.validation' to its value or less, or 'train.init' to fresh"
        )


def _require_unseen_clients(settings: params.Partition, held_out: int | float, champion: Version | None) -> None:
    """Compares the clients that never train with those of the champion's training, as its run has them."""
    if not held_out or champion is None:
        return
    registry = layout.registry()
    with registry.readable_errors():
        trained = registry.client().get_run(champion.run_id).data.params
    now = run_events.flat_params({"partition": params.used(settings), "evaluate": {"held_out_clients": held_out}})
    before = {"evaluate.held_out_clients": "0", **trained}
    if different := sorted(key for key in now if key in before and before[key] != now[key]):
        raise PipelineError(
            f"params.yaml: 'train.init' is champion, but {champion} was trained with another '{different[0]}' "
            f"({before[different[0]]}), and so perhaps on clients that never train now: set it to that value, or "
            "'train.init' to fresh"
        )


def _main() -> None:
    with exclusive_lock():
        chosen = _take_champion(
            params.load(params.Train, layout.PARAMS),
            params.load(params.Partition, layout.PARAMS),
            RawDataset.read(layout.RAW),
            Pool(layout.POOL).read_ledger(),
            params.load(params.Evaluate, layout.PARAMS).held_out_clients,
        )
    print(f"training with 'train.init: champion' starts from {chosen}", file=sys.stderr)


if __name__ == "__main__":
    run_stage(_main)
