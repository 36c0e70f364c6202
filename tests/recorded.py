"""A dvc.lock as DVC writes it, for folders in which a test puts outputs by hand."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

import layout
from fedpipe.config import read_yaml
from fedpipe.datasets.pool import Pool
from fedpipe.dvc_lock import md5
from tests import RECIPE, ROOT

DEFAULTS = read_yaml(RECIPE / "params.yaml")


def record(folder: Path, outs: Mapping[str, Iterable[Path]], params: Mapping[str, Any] = DEFAULTS) -> None:
    """Writes dvc.lock: for each stage its section of ``params``, and the MD5 of its outputs, paths in ``folder``."""
    stages = {
        stage: {
            "cmd": f"python -E -m stages.{stage}",
            "params": {"params.yaml": {stage: params[stage]}},
            "outs": [{"path": str(path), "hash": "md5", "md5": md5(folder / path)} for path in paths],
        }
        for stage, paths in outs.items()
    }
    with (folder / "dvc.lock").open("w") as file:
        YAML(typ="safe").dump({"schema": "2.0", "stages": stages}, file)


def results_are_of_the_recipe() -> bool:
    """Whether the committed results are those of the tests' recipe, and not of a team's own params or batches."""
    own, pool = read_yaml(ROOT / "params.yaml"), Pool(ROOT / layout.POOL)
    return own == DEFAULTS and not pool.read_ledger()
