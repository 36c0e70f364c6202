"""The sections of params.yaml."""

from fedpipe.config.download import Download
from fedpipe.config.judge import Evaluate, Promote
from fedpipe.config.partition import Partition
from fedpipe.config.section import Section
from fedpipe.config.train import Train

SECTIONS: dict[type[Section], str] = {
    Download: "download",
    Partition: "partition",
    Train: "train",
    Evaluate: "evaluate",
    Promote: "promote",
}
