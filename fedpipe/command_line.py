"""The command lines of modules: usage in the words of the make command that runs a module, and refused arguments."""

import argparse
import re
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from fedpipe.errors import UsageError


def make_command(name: str, *variables: str) -> dict[str, Any]:
    """Arguments of an ``ArgumentParser`` whose usage is that of ``make NAME``, with options in the variable ARGS.

        argparse.ArgumentParser(description=__doc__, **make_command("score", "FOLDER"))
        usage: make score FOLDER=... ARGS="[--output OUTPUT]"

    Subcommands get the same from ``add_parser(name, **make_command("incoming release"))``.

    Args:
      name: The target in the Makefile; and a subcommand, unless the target is the subcommand.
      variables: Variables of make that hold the positional arguments.
    """
    return {"prog": f"make {name}", "formatter_class": partial(_MakeUsage, variables=variables)}


class _MakeUsage(argparse.RawDescriptionHelpFormatter):
    """Writes ``usage: make NAME VARIABLE=... ARGS="options"``."""

    def __init__(self, prog: str, variables: tuple[str, ...] = ()) -> None:
        super().__init__(prog)
        self._variables = variables

    def _format_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[argparse._MutuallyExclusiveGroup],
        prefix: str | None,
    ) -> str:
        shown = [action for action in actions if "--help" not in action.option_strings]
        if self._variables:
            shown = [action for action in shown if action.option_strings]
        text = super()._format_usage(usage, shown, groups, prefix)
        if prefix is not None:  # argparse makes the names of subcommands of a usage without prefix
            return text
        variables = "".join(f" {name}=..." for name in self._variables)
        start, options = re.fullmatch(r"(usage: make [\w-]+)\s*(.*?)\s*", text, flags=re.DOTALL).groups()  # type: ignore[union-attr]
        return f"{start}{variables}" + (f' ARGS="{options}"' if options else "") + "\n\n"


def without_arguments(main: Callable[[], None], command: str = "") -> Callable[[], None]:
    """``main``, preceded by a check of the command line; ``--help`` prints the docstring of main's module.

    Use it as ``run_stage(without_arguments(main))``.

    Args:
      main: The command's function.
      command: As people call it, such as ``make tell``; ``python -m MODULE`` if not given.

    Raises:
      UsageError: When called, if the command line has arguments.
    """

    def checked() -> None:
        module = sys.modules[main.__module__]
        name = module.__spec__.name.removesuffix(".__main__") if module.__spec__ else main.__module__
        parser = argparse.ArgumentParser(
            prog=command or f"python -m {name}",
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _, unknown = parser.parse_known_args()
        if unknown:
            raise UsageError(
                f"`{parser.prog}` takes no arguments, but was given {' '.join(unknown)}: set params in params.yaml"
            )
        main()

    return checked
