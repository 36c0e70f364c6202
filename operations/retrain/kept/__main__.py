"""``python -m operations.retrain.kept``: the state of a retraining, into a folder and out of it.

python -m operations.retrain.kept pack FOLDER     writes what nothing else keeps (`make keep-state FOLDER=...`)
python -m operations.retrain.kept unpack FOLDER   brings it into this clone
"""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

from fedpipe.command_line import make_command
from fedpipe.errors import PipelineError, run_stage
from fedpipe.system.locks import LockTaken, locked_file
from operations.retrain.kept.pack import pack
from operations.retrain.kept.unpack import unpack
from operations.retrain.lock import LOCK
from operations.retrain.outcome import Outcome

_PATIENCE_SECONDS = 60.0  # for a training that got a signal to stop, and saves a checkpoint first


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m operations.retrain.kept",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command, name in (("pack", "keep-state"), ("unpack", "restore-state")):
        commands.add_parser(command, **make_command(name, "FOLDER")).add_argument("folder", type=Path)
    options = parser.parse_args()
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked_file(LOCK, _PATIENCE_SECONDS, lambda: _say("waiting for a retraining to end")))
        except LockTaken:
            raise PipelineError(
                f"a retraining still runs in this folder, so its state cannot be {options.command}ed: stop it, or wait "
                "until it has ended"
            ) from None
        if options.command == "pack":
            packed = pack(options.folder)
            _say(f"{options.folder}: {packed}")
            if outcome := Outcome.changed(state_bytes=packed.bytes):
                outcome.write()
            return
        unpacked = unpack(options.folder)
        for note in unpacked.notes:
            _say(note)
        ending = "; its retraining did not end, and `make retrain` resumes it" if unpacked.unfinished else ""
        _say(f"{unpacked.files} files of {options.folder} are in their places{ending}")


def _say(line: str) -> None:
    print(f"kept: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_stage(_main)
