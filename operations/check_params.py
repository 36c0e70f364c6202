"""``python -m operations.check_params``: checks all of params.yaml, the sections that no stage reads too.

A stage checks the file when it runs. With nothing to run, a mistake would pass unseen, so `make repro` checks it first.
If a cluster is chosen, its settings are checked, too, before the stages in front of train spend their time.
"""

import sys

import numpy as np

from fedpipe import params, unmerged
from fedpipe.cluster import settings as clusters
from fedpipe.command_line import without_arguments
from fedpipe.config.judge import held_out_count
from fedpipe.contracts.partition import PARTITIONERS
from fedpipe.errors import PipelineError, run_stage
from fedpipe.federation.fitting import require_fitting
from fedpipe.links.settings import LinkSettings
from fedpipe.privacy.calibration import calibrated
from fedpipe.runtime.cohort import cohort
from fedpipe.system import certificates
from layout import CLUSTER, FEDERATION, FEDERATION_CERTIFICATES, PARAMS


def main() -> None:
    """Says nothing if the file is right, but for the noise that follows from a target.

    Raises:
      PipelineError: A section or key is unknown or missing, or a value is not allowed; the message names all of them.
        Or the cluster or the sites that are chosen cannot run this training, or a merge has left conflicts.
    """
    if files := unmerged.files():  # DVC says it in a hundred lines
        raise PipelineError(unmerged.sentence(*files))
    params.validate(PARAMS)
    settings, partition = params.load(params.Train, PARAMS), params.load(params.Partition, PARAMS)
    held_out = held_out_count(params.load(params.Evaluate, PARAMS).held_out_clients, partition.clients)
    _tell_noise(settings, partition.clients - held_out)
    cluster = clusters.chosen(CLUSTER)
    if cluster is not None:
        clusters.require_fitting(cluster, settings)
    if PARTITIONERS.of(partition.scheme).AT_SITES:
        require_fitting(settings)
        certificates.files(
            LinkSettings.read(FEDERATION, FEDERATION_CERTIFICATES).certificates, "coordinator", certificates.FEDERATION
        )


def _tell_noise(settings: params.Train, clients: int) -> None:
    """Prints the ``noise_multiplier`` that auto stands for. With secret noise, dp_ftrl's depends on secret cohorts."""
    if settings.privacy.epsilon is None:
        return
    sizes = np.ones(clients, np.int64)  # no private cohort depends on them
    chosen = calibrated(settings, clients, lambda number: cohort(settings, sizes, number).clients)
    print(
        f"check_params: 'train.{settings.aggregator}.noise_multiplier' auto is "
        f"{chosen.params_of('aggregator').noise_multiplier:g}, for an epsilon of {settings.privacy.epsilon:g} after "
        f"{settings.rounds} rounds",
        file=sys.stderr,
    )


if __name__ == "__main__":
    run_stage(without_arguments(main))
