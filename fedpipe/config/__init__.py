"""The sections of params.yaml as types: a module a section (download.py, partition.py, ...), and YAML to mappings.

Nothing here imports a file of a choice. fedpipe/params loads and checks.
"""

from fedpipe.config.download import Download
from fedpipe.config.incoming import Incoming
from fedpipe.config.judge import Evaluate, Promote
from fedpipe.config.partition import Partition
from fedpipe.config.section import Section
from fedpipe.config.state import State
from fedpipe.config.tell import Tell
from fedpipe.config.text import parse_text, read_yaml
from fedpipe.config.train import Train

__all__ = [
    "SECTIONS",
    "Download",
    "Evaluate",
    "Incoming",
    "Partition",
    "Promote",
    "State",
    "Tell",
    "Train",
    "parse_text",
    "read_yaml",
]

SECTIONS: dict[type[Section], str] = {
    Download: "download",
    Partition: "partition",
    Train: "train",
    Evaluate: "evaluate",
    Promote: "promote",
    Incoming: "incoming",
    State: "state",
    Tell: "tell",
}
