"""Writes libraries.lock: the pinned versions that decide the bits of results, and nothing else of requirements.lock.

The stages depend on libraries.lock, so a new version of pytest or DVC reruns nothing, and a new NumPy reruns what uses
it. `make lock` runs this file as a script, with a Python that has no packages.
"""

import re
import sys
from pathlib import Path

# What computes, draws and writes results; what they need at run time comes along.
ROOTS = (
    "matplotlib",
    "numpy",
    "pandas",
    "pillow",
    "safetensors",
    "scipy",
    "tensorflow",
    "tensorflow-federated",
)

# They come with TensorFlow and TFF, and no stage calls them: a web page for logs, and a tuner. So what only they need
# (clients for HTTP and databases) decides nothing either.
NOT_CALLED = {"google-vizier", "tensorboard"}

REQUIREMENTS = Path("requirements.lock")
LIBRARIES = Path("libraries.lock")


def deciding(requirements: str) -> str:
    """The content of libraries.lock.

    Args:
      requirements: The content of requirements.lock, as uv writes it: below each package, who asks for it.

    Raises:
      ValueError: A library that decides bits is not in it.
    """
    versions: dict[str, str] = {}
    needed_by: dict[str, set[str]] = {}
    package = ""
    for line in requirements.splitlines():
        if pinned := re.match(r"([a-z0-9-]+)(?:\[[^]]*\])?==(\S+)", line):
            package = pinned[1]
            versions[package], needed_by[package] = pinned[2], set()
        elif package and (needs := re.match(r" +#(?: via)? +([a-z0-9-]+)", line)):
            needed_by[package].add(needs[1])
    if missing := set(ROOTS) - set(versions):
        raise ValueError(f"{REQUIREMENTS} pins no {', '.join(sorted(missing))}")
    kept, size = set(ROOTS), 0
    while len(kept) > size:
        size = len(kept)
        kept |= {name for name, askers in needed_by.items() if askers & kept} - NOT_CALLED
    head = f"# The part of {REQUIREMENTS} that decides the bits of results; `make lock` writes it.\n"
    return head + "".join(f"{name}=={versions[name]}\n" for name in sorted(kept))


def main() -> None:
    """Writes the file if its content changes."""
    text = deciding(REQUIREMENTS.read_text(encoding="utf-8"))
    if not LIBRARIES.is_file() or LIBRARIES.read_text(encoding="utf-8") != text:
        LIBRARIES.write_text(text, encoding="utf-8")
    print(f"lock: {LIBRARIES} names the {text.count('==')} of them that decide the bits of results")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(f"error: {LIBRARIES} cannot be written: {error}")
