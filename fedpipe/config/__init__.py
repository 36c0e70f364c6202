"""Typed, validated view of params.yaml: a module a section (download.py, partition.py, ...), and loading.py.

Each stage asks for its own section with `load`; nothing after that checks a parameter again.
"""

from fedpipe.config.download import DatasetName, Download, IdxFiles, PinnedFile, Sources, UserDataset
from fedpipe.config.judge import Evaluate, McNemar, Personalise, Promote
from fedpipe.config.loading import SECTIONS, check, load, parse_yaml, read_yaml, require_unchanged, used
from fedpipe.config.partition import Concept, Features, Partition
from fedpipe.config.train import Optimizer, Train

__all__ = [
    "SECTIONS",
    "Concept",
    "DatasetName",
    "Download",
    "Evaluate",
    "Features",
    "IdxFiles",
    "McNemar",
    "Optimizer",
    "Partition",
    "Personalise",
    "PinnedFile",
    "Promote",
    "Sources",
    "Train",
    "UserDataset",
    "check",
    "load",
    "parse_yaml",
    "read_yaml",
    "require_unchanged",
    "used",
]
