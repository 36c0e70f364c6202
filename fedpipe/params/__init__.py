"""From params.yaml to sections that are checked: a stage or operation loads its own, `validate` validates them all.

Only here the chosen files of section ``train`` or ``partition`` are imported.
"""

from fedpipe.config import SECTIONS, Download, Evaluate, Incoming, Partition, Promote, State, Tell, Train
from fedpipe.config.choices import used
from fedpipe.params.client_weights import with_values as with_client_weights
from fedpipe.params.composition import parse
from fedpipe.params.loading import load, require_unchanged, sections_of, validate

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
    "load",
    "parse",
    "require_unchanged",
    "sections_of",
    "used",
    "validate",
    "with_client_weights",
]
