"""Section ``state``: the files kept from one weekly retraining to the next (docs/retraining-state.md)."""

from fedpipe.config.section import Section, Size


class State(Section):
    """How much of the model registry is kept where no tracking server keeps it."""

    former_champions: Size
