"""The sections of params.yaml as types: a module a section (download.py, partition.py, ...), and YAML to mappings.

Nothing here imports a file of a choice. fedpipe/params loads and checks.
"""

from fedpipe.config.download import DatasetName, Download, IdxFiles, PinnedFile, Sources, UserDataset
from fedpipe.config.judge import Evaluate, McNemar, Personalise, Promote
from fedpipe.config.partition import Concept, Features, Partition
from fedpipe.config.sections import SECTIONS
from fedpipe.config.text import parse_text, read_yaml
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
    "parse_text",
    "read_yaml",
]
