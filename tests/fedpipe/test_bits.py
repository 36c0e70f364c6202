"""Each algorithm, aggregator, attack and compressor has the same bits in two processes, with any number of cores."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fedpipe.contracts.aggregator import AGGREGATORS
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.contracts.attack import ATTACKS
from fedpipe.contracts.compressor import COMPRESSORS
from tests import ROOT
from tests.operations.combinations import WITH_DROPOUT, covering, harder


def both(module: str, small_images: Path, folder: Path, *more: str) -> dict[str, str]:
    """What ``module`` writes in two processes, which must be the same.

    One of them has one core, so that clients end in another order there.
    """
    cores = os.sched_getaffinity(0)
    running = []
    for name, mine in (("all", cores), ("one", {min(cores)})):
        command = [sys.executable, "-m", module, str(small_images), str(folder / name), *more]
        running.append(subprocess.Popen(command, cwd=ROOT, preexec_fn=lambda mine=mine: os.sched_setaffinity(0, mine)))
    assert [process.wait(timeout=600) for process in running] == [0, 0]
    first, other = (json.loads((folder / name).read_text()) for name in ("all", "one"))
    assert first == other
    digests: dict[str, str] = first
    return digests


@pytest.mark.slow
def test_two_processes(small_images: Path, tmp_path: Path) -> None:
    """Combinations that have every choice: each trains, to bits of its own."""
    contents = [*map(harder, covering(seed=2024)), WITH_DROPOUT]
    (tmp_path / "contents.json").write_text(json.dumps(contents))
    digests = both("tests.operations.combinations", small_images, tmp_path, str(tmp_path / "contents.json"))
    assert len(set(digests.values())) == len(contents)


@pytest.mark.slow  # the test above has every choice, though not alone
def test_each_choice_alone_in_two_processes(small_images: Path, tmp_path: Path) -> None:
    digests = both("tests.fedpipe.bits", small_images, tmp_path)
    # FedAvg with the mean is one of both, and no_attack and no_compression are that.
    others = sum(len(registry.names) - 1 for registry in (AGGREGATORS, ATTACKS, COMPRESSORS))
    assert len(digests) == len(set(digests.values())) == len(ALGORITHMS.names) + others


EMULATOR = ["qemu-x86_64", "-cpu", "Haswell"]
# One of each kind: a convolution, what clients keep, DP noise, distances, packed levels, places of the largest entries.
EMULATED = (
    "fed_avg with mean",
    "scaffold with mean",
    "fed_avg with dp_gaussian",
    "fed_avg with geometric_median",
    "fed_avg with quantisation",
    "fed_avg with top_k",
)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(EMULATOR[0]) is None, reason="qemu-x86_64 is missing (Debian: qemu-user)")
def test_another_model_of_cpu(small_images: Path, tmp_path: Path) -> None:
    """One without AVX-512, emulated: driver and worker are slow there, and have the bits of the native run."""
    # A virtual environment's python may be a link or a script, and qemu wants the binary.
    python = [str(Path(sys.executable).resolve()), "-m", "tests.fedpipe.bits", str(small_images)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    for command in (
        [*python, str(tmp_path / "native"), ",".join(EMULATED)],
        [*EMULATOR, *python, str(tmp_path / "other"), ",".join(EMULATED), *EMULATOR],
    ):
        subprocess.run(command, cwd=ROOT, check=True, timeout=1500, env=environment)
    native, other = (json.loads((tmp_path / name).read_text()) for name in ("native", "other"))
    assert native == other and set(native) == set(EMULATED)
