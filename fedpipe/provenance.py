"""The provenance of results: CPU, library versions and pinned settings, so that two machines can be compared.

None of it enters a DVC output.
"""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fedpipe.pinning import PINNED

# What computes the bits, or draws the random numbers.
_LIBRARIES = ("tensorflow", "tensorflow-federated", "numpy", "pandas", "scipy", "matplotlib", "pillow", "safetensors")
# Where oneDNN and NumPy could choose other kernels, were they not pinned.
_CPU_FLAGS = ("avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile")


def collect() -> dict[str, Any]:
    """CPU, system, library versions and the pinned settings, as this process sees them."""
    return {
        "cpu": _cpu(),
        "system": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}",
        "python": platform.python_version(),
        "libraries": library_versions(),
        "pinned": PINNED,
    }


def library_versions() -> dict[str, str]:
    """The versions of the libraries that compute the bits or draw the random numbers."""
    return {name: _version(name) for name in _LIBRARIES}


def differences(recorded: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """One phrase for each fact that differs, dotted name first."""
    changes = []
    for key in sorted(set(recorded) | set(here)):
        old, new = recorded.get(key), here.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            changes += [f"{key}.{phrase}" for phrase in differences(old, new)]
        elif old != new:
            changes.append(f"{key}: {old!r} there, {new!r} here")
    return changes


def _cpu() -> dict[str, Any]:
    """Model name and the flags that matter, as Linux tells them."""
    facts: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
    except FileNotFoundError:
        return {"model name": platform.processor(), "flags": []}
    flags = set(facts.get("flags", "").split())
    named = {key: facts.get(key, "") for key in ("model name", "cpu family", "model", "stepping", "cache size")}
    return named | {"flags": [flag for flag in _CPU_FLAGS if flag in flags]}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
