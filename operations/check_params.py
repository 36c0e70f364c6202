"""``python -m operations.check_params``: check the whole of params.yaml, as every stage does when it starts.

`make repro` calls it before DVC. DVC looks for the files that params.yaml names, such as
fedpipe/partitioners/<partition.scheme>.py, before any stage can say what is wrong with a name.
"""

from fedpipe import config as params
from fedpipe.errors import run_stage


def main() -> None:
    """Ends with the sentence of `params.load` if something is wrong."""
    params.load(params.Partition)


if __name__ == "__main__":
    run_stage(main)
