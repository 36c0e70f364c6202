"""``python -m operations.check_params``: checks all of params.yaml, the sections that no stage reads too.

A stage checks the file when it runs. With nothing to run, a mistake would pass unseen, so `make repro` checks it first.
"""

from fedpipe import config
from fedpipe.command_line import without_arguments
from fedpipe.errors import run_stage
from layout import PARAMS


def main() -> None:
    """Says nothing if the file is right.

    Raises:
      PipelineError: A section or key is unknown or missing, or a value is not allowed; the message names all of them.
    """
    config.check(PARAMS)


if __name__ == "__main__":
    run_stage(without_arguments(main))
