"""``python -m operations.check_params``: checks all of params.yaml, the sections that no stage reads too.

A stage checks the file when it runs. With nothing to run, a mistake would pass unseen, so `make repro` checks it first.
If a cluster is chosen, its settings are checked, too, before the stages in front of train spend their time.
"""

from fedpipe import params
from fedpipe.cluster import settings as clusters
from fedpipe.command_line import without_arguments
from fedpipe.errors import run_stage
from layout import CLUSTER, PARAMS


def main() -> None:
    """Says nothing if the file is right.

    Raises:
      PipelineError: A section or key is unknown or missing, or a value is not allowed; the message names all of them.
        Or the cluster that is chosen cannot run this training.
    """
    params.check(PARAMS)
    cluster = clusters.chosen(CLUSTER)
    if cluster is not None:
        clusters.require_fitting(cluster, params.load(params.Train, PARAMS))


if __name__ == "__main__":
    run_stage(without_arguments(main))
