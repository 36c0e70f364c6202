"""What the tests of the schemes ask for: params.yaml's partition with a few keys changed, and labels to deal."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedpipe.config import Partition, read_yaml
from fedpipe.params.composition import fitted
from fedpipe.partitioning.assignment import assign
from fedpipe.partitioning.partition_tables import label_table
from tests import RECIPE

DEFAULTS = read_yaml(RECIPE / "params.yaml")["partition"] | {"scheme": "iid", "clients": 10, "seed": 1}


def partition(**changed: object) -> Partition:
    """The defaults with ``changed`` keys; a mapping changes some keys of a section."""
    content = _changed(DEFAULTS, changed)
    return fitted(Partition, content).model_validate(content)


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    deeper = {key: _changed(old.get(key, {}), value) for key, value in new.items() if isinstance(value, Mapping)}
    return {**old, **new, **deeper}


def balanced_labels(samples: int, classes: int = 10) -> np.ndarray:
    return np.random.default_rng(0).permutation(np.arange(samples) % classes).astype(np.uint8)


def counts_of(labels: np.ndarray, params: Partition) -> np.ndarray:
    """Clients x labels."""
    return label_table(labels, assign(labels, params), params.clients, int(labels.max()) + 1).to_numpy()


def csv(path: Path, text: str) -> dict[str, str]:
    """Writes ``text`` and returns the params that name the file and pin it."""
    path.write_text(text, encoding="utf-8")
    return {"table": str(path), "sha256": hashlib.sha256(text.encode()).hexdigest()}
