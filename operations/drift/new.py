"""Which batches of the pool are new: those that the committed results were not trained on."""

from collections.abc import Sequence

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

import layout
from fedpipe.datasets import pool
from fedpipe.datasets.pool import Entry, Pool
from fedpipe.errors import PipelineError
from operations import commands


def new_batches(entries: Sequence[Entry]) -> list[Entry]:
    """The batches after the ledger that HEAD's dvc.lock names; all, if it names none or an unknown one.

    From the committed dvc.lock and not from the one at hand: so it stays the same however far a retraining has come.
    """
    try:
        lock = YAML(typ="safe").load(commands.committed(layout.LOCK) or "")
        deps = lock["stages"]["partition"]["deps"]
        md5 = next(dep["md5"] for dep in deps if dep["path"] == str(Pool(layout.POOL).ledger))
    except (PipelineError, YAMLError, KeyError, TypeError, StopIteration):
        md5 = ""  # not committed yet
    return pool.not_trained_on(entries, md5)
