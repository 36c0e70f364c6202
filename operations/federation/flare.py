"""The commands for kits of NVIDIA FLARE, at the coordinator and at sites (docs/federation.md)."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedpipe.command_line import make_command
from fedpipe.links.flare import kit as kits
from fedpipe.links.flare.start import start


def add_flare_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    """Adds the commands of this file to those of a federation."""
    for command in COMMANDS:
        making = commands.add_parser(command, **make_command(command, "KIT"))
        making.add_argument("kits", nargs="+", type=Path, metavar="KIT", help="its folder")
    answering = commands.add_parser("flare-site", **make_command("flare-site", "KIT"))
    answering.add_argument("kit", type=Path, help="folder of the site's kit")


def secure_kits(folders: Sequence[Path]) -> None:
    """Changes kits so that they are safe to use.

    Raises:
      PipelineError: A folder is no kit of `nvflare provision`.
    """
    for folder in folders:
        written = kits.secure(folder)
        for file in written:
            print(f"flare-kit: wrote {file}")
        if not written:
            print(f"flare-kit: {folder} is as it should be")


def start_kits(folders: Sequence[Path]) -> None:
    """Runs the kits' start.sh.

    Raises:
      PipelineError: NVIDIA FLARE is not installed, or a kit is not safe to use.
    """
    for folder in folders:
        start(folder)
        print(f"flare-start: ran {folder}/startup/start.sh; its log is {folder}/log.txt")


COMMANDS = {"flare-kit": secure_kits, "flare-start": start_kits}
