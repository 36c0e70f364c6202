"""Commands that take no arguments: they refuse what they would ignore."""

import argparse
import sys
from collections.abc import Callable

from fedpipe.errors import UsageError


def without_arguments(main: Callable[[], None]) -> Callable[[], None]:
    """``main``, preceded by a check of the command line; ``--help`` prints the docstring of main's module.

    Use it as ``run_stage(without_arguments(main))``.

    Raises:
      UsageError: When called, if the command line has arguments.
    """

    def checked() -> None:
        module = sys.modules[main.__module__]
        name = module.__spec__.name.removesuffix(".__main__") if module.__spec__ else main.__module__
        parser = argparse.ArgumentParser(
            prog=f"python -m {name}", description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        _, unknown = parser.parse_known_args()
        if unknown:
            raise UsageError(
                f"`{parser.prog}` takes no arguments, but was given {' '.join(unknown)}: set params in params.yaml"
            )
        main()

    return checked
