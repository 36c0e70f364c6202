"""Typed, validated view of params.yaml: a module a section (download.py, partition.py, ...), and loading.py.

Each stage asks for its own section with `load`; nothing after that checks a parameter again.
"""

from fedpipe.config.download import DatasetName, Download, IdxFiles, OwnDataset, PinnedFile, Sources
from fedpipe.config.judge import Evaluate, McNemar, Promote
from fedpipe.config.loading import PARAMS_FILE, SECTIONS, check, load, parse_yaml, read_yaml, require_unchanged, used
from fedpipe.config.partition import QUANTITY_NAMES, SCHEME_NAMES, Concept, Features, Partition
from fedpipe.config.train import MODEL_NAMES, Optimizer, Train

__all__ = [
    "MODEL_NAMES",
    "PARAMS_FILE",
    "QUANTITY_NAMES",
    "SCHEME_NAMES",
    "SECTIONS",
    "Concept",
    "DatasetName",
    "Download",
    "Evaluate",
    "Features",
    "IdxFiles",
    "McNemar",
    "Optimizer",
    "OwnDataset",
    "Partition",
    "PinnedFile",
    "Promote",
    "Sources",
    "Train",
    "check",
    "load",
    "parse_yaml",
    "read_yaml",
    "require_unchanged",
    "used",
]
