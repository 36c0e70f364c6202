"""``python -m stages.train``: trains the global model over the clients' shards."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import layout
from fedpipe import params, pinning
from fedpipe.atomic import write_text
from fedpipe.cluster import settings as clusters
from fedpipe.command_line import without_arguments
from fedpipe.datasets.shards import Manifest, verify_shards
from fedpipe.errors import PipelineError
from fedpipe.evaluation.global_model import GlobalSamples
from fedpipe.evaluation.identity import sha256
from fedpipe.json_model import json_text
from fedpipe.networks.network import Network, network
from fedpipe.networks.personal_weights import save_none
from fedpipe.networks.spec import ModelSpec
from fedpipe.networks.weights import save_weights
from fedpipe.outputs.staging import StagedOutputs
from fedpipe.outputs.writer import only_writer
from fedpipe.runtime import cohort, initial
from fedpipe.runtime.training_key import Key, name_of, training_key
from fedpipe.runtime.worker import Worker
from fedpipe.stage_process import run_stage
from fedpipe.system.signals import stoppable
from fedpipe.tracking import journal

if TYPE_CHECKING:
    from fedpipe.runtime.chunks import Elsewhere
    from fedpipe.runtime.kept_state import States
    from fedpipe.runtime.trained import Trained

COPIES = layout.COPIES / "train"
LOGS = layout.stage_logs("train")

# Bytes of disk that are reserved before the first round, so that the results have room after the last.
_COPIES = 3  # of the weights: here, in DVC's cache, and for MLflow
_A_ROUND = 200  # a row of metrics/rounds.csv
_SMALL = 500_000  # any other output


def main() -> None:
    """Reads params and shards' manifest, trains on a worker, writes weights, tables and the picture."""
    begin = time.perf_counter()
    params.validate(layout.PARAMS)
    settings = params.load(params.Train, layout.PARAMS)
    manifest = Manifest.read(layout.CLIENTS)
    weighted = params.with_client_weights(settings, layout.CLIENTS, manifest)
    cohort.require_clients(settings, manifest.clients)
    model = network(ModelSpec.of(settings, *manifest.kind))
    init = initial.require_fit(settings, manifest, model.spec, weights=layout.INITIAL, pointer=layout.INITIAL_POINTER)
    samples = _samples(settings)
    first = initial.first_weights(model, settings, layout.INITIAL)
    key = training_key(weighted, manifest, first, samples)
    pinning.require_avx2()
    cluster = _cluster(manifest)
    pipeline = layout.pipeline_files()

    with only_writer("train", layout.stage_lock("train")), stoppable(), Worker(LOGS / "worker.log") as worker:
        # TensorFlow and TFF take seconds to import; the worker starts in the meantime.
        from fedpipe.runtime import tracked
        from fedpipe.runtime.checkpoints import Checkpoints
        from fedpipe.runtime.training import prepare

        verify_shards(layout.CLIENTS, manifest)
        title = f"{settings.model}, {manifest.dataset}, {manifest.clients} clients, {settings.rounds} rounds"
        started = tracked.started(settings, manifest, layout.CLIENTS, init, pipeline)
        with (
            StagedOutputs("train", _sizes(settings, manifest, model)) as outputs,
            _opened(cluster, weighted, manifest, key) as (elsewhere, states, of_sites),
            Checkpoints(LOGS, key, weighted, states) as checkpoints,
            journal.record_training(started, layout.outbox(), tracked.earlier(checkpoints.resumed)) as run,
        ):
            checkpoints.tracking = run.identity
            print(f"train: {title}; libraries loaded after {time.perf_counter() - begin:.1f} s", file=sys.stderr)
            training = prepare(
                weighted,
                layout.CLIENTS,
                LOGS,
                network=model,
                first=first,
                checkpoints=checkpoints,
                **of_sites,
            )
            trained = training.run(
                worker,
                evaluate=samples.measure if samples else None,
                evaluate_own=samples.measure_own if samples else None,
                hooks=[tracked.log_rounds(run)],
                elsewhere=elsewhere,
            )
            _write(trained, manifest, outputs, title)
            pictures = [layout.TRAINING_PICTURE, *([] if pipeline.withholds else [layout.PARTITION_PICTURE])]
            seconds = time.perf_counter() - begin + checkpoints.seconds_before
            # Withheld as those of rounds are (`tracked.figures`).
            times = {} if pipeline.withholds else {"cost": {"total_seconds": seconds}}
            run.log_results(
                weights=layout.WEIGHTS,
                tables=[*pipeline.tables(), *([layout.CLIENT_ROUNDS] if settings.client_rounds else [])],
                pictures=[path for path in pictures if path.exists()],
                figures={**times, **pipeline.partition_figures(), **pipeline.privacy_figures()},
            )
    params.require_unchanged(settings, layout.PARAMS)


def _cluster(manifest: Manifest) -> clusters.ClusterSettings | None:
    """The cluster that is chosen, if one is.

    Raises:
      PipelineError: One is chosen for clients that are at sites.
    """
    cluster = clusters.chosen(layout.CLUSTER)
    if manifest.samples_at == "sites" and cluster is not None:
        raise PipelineError(
            f"the clients' samples are at sites, which a cluster does not reach: unset {clusters.ADDRESS}, and remove "
            f"the address from {layout.CLUSTER}"
        )
    return cluster


@contextmanager
def _opened(
    cluster: clusters.ClusterSettings | None, settings: params.Train, manifest: Manifest, key: Key
) -> "Iterator[tuple[Elsewhere | None, States | None, dict[str, Any]]]":
    """Where clients run and keep files, if not here: on a cluster, or at their sites, and what `prepare` takes."""
    if manifest.sites is None or manifest.samples_at is None:
        from fedpipe.cluster.cluster import opened

        with opened(cluster, settings, manifest.digest) as members:
            yield members, None, {}
        return
    from fedpipe.federation.coordinator import Federation
    from fedpipe.federation.secure_sums import SecureSums
    from fedpipe.links.opening import open_link
    from fedpipe.links.settings import LinkSettings
    from fedpipe.runtime.progress import say

    link_settings = LinkSettings.read(layout.FEDERATION, layout.FEDERATION_CERTIFICATES)
    secure = SecureSums.of(settings, layout.ROSTER, layout.SECURE_SUMS / name_of(key))
    with open_link(link_settings, [site.name for site in manifest.sites], say) as link:
        federation = Federation(link, manifest, settings, name_of(key), secure, link_settings.quorum)
        federation.join()
        of_sites = {"all_weights": federation.all_weights, "fewest_sites": federation.fewest_sites}
        yield federation, federation.states, of_sites
    if secure is not None:
        secure.end()


def _samples(settings: params.Train) -> GlobalSamples | None:
    """What rounds are measured on; None if none is."""
    if not settings.evaluate_every:
        return None
    samples = GlobalSamples.read(
        layout.RAW, layout.CLIENTS, layout.VALIDATION, layout.CLIENT_TESTS, layout.HELD_OUT_CLIENTS / "clients"
    )
    if settings.selecting and settings.selection not in samples.parts:
        raise PipelineError(
            f"'train.{settings.selecting[0]}' needs validation samples, and {layout.VALIDATION} holds none: run the "
            "partition stage first (dvc repro)"
        )
    return samples


def _sizes(settings: params.Train, manifest: Manifest, model: Network) -> dict[Path, int]:
    """Bytes of each output."""
    from fedpipe.runtime.personal import model_count

    of_model = 4 * model.parameters
    return {
        layout.WEIGHTS: _COPIES * of_model,
        layout.BEST: 2 * of_model,
        layout.PERSONAL: 2 * of_model * model_count(settings, manifest.clients) + 4 * manifest.clients,
        layout.ROUNDS: settings.rounds * _A_ROUND,
        layout.CLIENT_ROUNDS: _SMALL,
        layout.TRAINING: _SMALL,
        layout.TRAINING_PICTURE: _SMALL,
        COPIES: settings.rounds * _A_ROUND,
    }


def _write(trained: "Trained", manifest: Manifest, outputs: StagedOutputs, title: str) -> None:
    """Writes all outputs and puts them in their places."""
    from fedpipe.runtime.records import plot, write_table

    digests: dict[str, Any] = {}
    with outputs.writing(layout.WEIGHTS) as path:
        save_weights(path, trained.network, trained.weights)
        digests["weights_sha256"] = sha256(path)
    with outputs.writing(layout.BEST) as path:
        save_weights(path, trained.network, trained.best)
    with outputs.writing(layout.PERSONAL) as path:
        if trained.personal is None:
            save_none(path, trained.network)
        else:
            trained.personal.write(path)
            digests["personal_sha256"] = sha256(path)
    with outputs.writing(layout.ROUNDS) as path:
        write_table(trained.records, path)
    with outputs.writing(layout.TRAINING) as path:
        write_text(path, json_text(trained.summary() | digests))
    with outputs.writing(layout.TRAINING_PICTURE) as path:
        plot(trained.records, title, path)
    with outputs.writing(layout.CLIENT_ROUNDS) as path:
        trained.client_rounds(manifest.client_numbers).to_csv(path, index=False)
    outputs.copy([layout.TRAINING, layout.ROUNDS], COPIES)
    outputs.place()


if __name__ == "__main__":
    run_stage(without_arguments(main), layout.FAILURE)
