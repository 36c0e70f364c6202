"""CPU milliseconds per client of each model: in a round of this project, and as bare TensorFlow's steps.

Two tables. The first has every model of fedpipe/models. The second has the ways to bring a model of one's own: three
models of the zoo as their hand-written pass, as a stack of Keras layers, and from a `.keras` file.

All subjects of a model run a round each in turn; a figure is the median over the turns, and ratios are taken within a
turn. CPU seconds of a round are those of driver and worker; bare TensorFlow has a process per core. Run it with nothing
else running.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import keras_twins
from benchmarks.results import store
from benchmarks.rounds import downloaded_training_set
from benchmarks.subjects import CORES, bound, fedpipe, in_turn, median, ratio, spread
from fedpipe import pinning, provenance

TURNS = 8
BARE = "bare"
HAND_WRITTEN = "hand-written"

Measured = dict[str, float]  # of one process of each: CPU milliseconds per client, and ratios of these


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=3, help="processes of each kind")
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--models", nargs="*", default=None, help="of the zoo; all by default")
    arguments = parser.parse_args()
    pinning.pin()
    from fedpipe.contracts.model import MODELS
    from fedpipe.datasets.shards import write_shards

    images, labels = downloaded_training_set()
    zoo = arguments.models or [name for name in MODELS.names if name != "keras_file"]
    twins = [name for name in keras_twins.TWINS if name in zoo]
    with tempfile.TemporaryDirectory() as folder:
        shards = Path(folder, "shards")
        shards.mkdir()
        write_shards(shards, "mnist", images, labels, np.array_split(np.arange(60_000), 600), 10)
        files = {name: write_keras_file(name, Path(folder)) for name in twins}
        measured = [
            {name: measure(name, files.get(name, ""), arguments.clients, shards) for name in zoo}
            for _ in range(arguments.processes)
        ]
    report(zoo, measured)
    store(
        models={
            "machine": provenance.collect() | {"cores": CORES},
            "clients": arguments.clients,
            "cpu_ms_per_client": {name: summary(name, measured) for name in zoo},
            "processes": measured,
        }
    )


def write_keras_file(name: str, folder: Path) -> str:
    """A `.keras` file with the layers of ``name``, written by a process of its own, which may load TensorFlow."""
    import multiprocessing

    path = str(folder / f"{name}.keras")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(_save, (name, path))
    return path


def _save(name: str, path: str) -> None:
    from fedpipe.networks.spec import ModelSpec

    keras_twins.keras_model(name, ModelSpec(name, (28, 28, 1), 10)).save(path)


def measure(model: str, file: str, clients: int, shards: Path) -> Measured:
    """CPU milliseconds per client of each way to bring ``model``, and of bare TensorFlow; and the ratios of these."""
    ways = {HAND_WRITTEN: (model, "")}
    if file:
        ways |= {"as Keras layers": (f"keras:{model}", ""), "from a .keras file": ("keras_file", file)}
    subjects = {way: partial(fedpipe, clients, shards, *brought) for way, brought in ways.items()}
    subjects[BARE] = partial(bound, model, clients)
    rounds_of, _ = in_turn(subjects, dict.fromkeys(subjects, TURNS))
    figures = {name: 1e3 * median(rounds, "cpu_seconds") / clients for name, rounds in rounds_of.items()}
    others = {
        f"{way} / {HAND_WRITTEN}": ratio(rounds_of[way], rounds_of[HAND_WRITTEN], "cpu_seconds")
        for way in ways
        if way != HAND_WRITTEN
    }
    ratios = {f"{HAND_WRITTEN} / {BARE}": ratio(rounds_of[HAND_WRITTEN], rounds_of[BARE], "cpu_seconds")} | others
    print(f"{model}: " + ", ".join(f"{name} {value:.2f}" for name, value in (figures | ratios).items()), flush=True)
    return figures | ratios


def summary(model: str, measured: list[dict[str, Measured]]) -> dict[str, dict[str, float]]:
    """Spreads over the processes."""
    return {name: spread([process[model][name] for process in measured]) for name in measured[0][model]}


def report(zoo: list[str], measured: list[dict[str, Measured]]) -> None:
    medians = {model: {name: value["median"] for name, value in summary(model, measured).items()} for model in zoo}
    print(f"\n{'CPU ms per client, medians':36} {'fedpipe':>9} {'bare TF':>9} {'ratio':>7}")
    for model, figures in medians.items():
        ratio_to_bare = figures[f"{HAND_WRITTEN} / {BARE}"]
        print(f"{model:36} {figures[HAND_WRITTEN]:9.2f} {figures[BARE]:9.2f} {ratio_to_bare:7.2f}")
    print(f"\n{'ways to bring a model, in fedpipe':48} {'CPU ms':>9} {'beside the hand-written pass':>30}")
    for model, figures in medians.items():
        for way in (name for name in figures if f"{name} / {HAND_WRITTEN}" in figures):
            print(f"{f'{model} {way}':48} {figures[way]:9.2f} {figures[f'{way} / {HAND_WRITTEN}']:30.2f}")


if __name__ == "__main__":
    main()
