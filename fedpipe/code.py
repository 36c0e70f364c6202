"""Which code decides a result: a list for each use, and digests of the code on this machine's disk.

The pipeline names the code of each stage in its deps. Tests derive all of it from the imports.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from fedpipe.config.train import Train

PACKAGE = Path(__file__).resolve().parent

# Below fedpipe/: the code that decides the bits of a training. Of each choice, `chosen_code` adds the chosen file.
TRAINING = (
    "compatibility/batch_norm.py",
    "compatibility/round_size.py",
    "contracts",
    "datasets/idx.py",
    "datasets/raw.py",
    "datasets/shards",
    "evaluation",
    "json_model.py",
    "lazy.py",
    "learning",
    "metrics",
    "networks",
    "pinning.py",
    "privacy",
    "runtime",
    "samples",
    "secure_aggregation/noise.py",
    "secure_aggregation/skellam_privacy.py",
    "secure_aggregation/values.py",
    "secure_aggregation/vector.py",
    "seeds.py",
)
# Below fedpipe/: the code that a worker of a cluster runs around a training.
CLUSTER = ("cluster", "enclosure", "system")
# And the code that a site of a federation runs.
FEDERATION = ("federation", "links", "secure_aggregation", "enclosure", "system")
# Below fedpipe/: the imports of a served model (tracking/serving.py), and theirs.
SERVING = (
    "__init__.py",
    "atomic.py",
    "errors.py",
    "lazy.py",
    "pinning.py",
    "spelling.py",
    "unmerged.py",
    "config",
    "contracts",
    "losses",
    "models",
    "networks",
    "samples",
)


def chosen_code(settings: Train) -> list[str]:
    """`TRAINING`, and the file of each choice: paths below fedpipe/."""
    chosen = [
        f"{registry.package.split('.')[1]}/{getattr(settings, key)}.py" for key, registry in Train.CHOICES.items()
    ]
    return [*TRAINING, *chosen]


def code_digest(paths: Sequence[str]) -> str:
    """The SHA-256 over the Python files at ``paths`` below fedpipe/, folders with all that is in them."""
    files = sorted(file for path in paths for file in _files(PACKAGE / path))
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(PACKAGE)} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _files(path: Path) -> Iterable[Path]:
    return path.rglob("*.py") if path.is_dir() else [path]
