"""CPU milliseconds per client of each model: in a round of this project, and as bare TensorFlow's steps.

Two tables. The first has every model of fedpipe/models. The second has the ways to bring a model of one's own: three
models of the zoo as their hand-written pass, as a stack of Keras layers, and from a `.keras` file.

Processes run in turn; a figure is the median over the turns, each giving its median round after the first, and ratios
are taken within a turn. CPU seconds of a round are those of driver and worker. Run it with nothing else running.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import keras_twins
from benchmarks.results import store
from benchmarks.rounds import CORES, bound, downloaded_training_set, fedpipe, round_seconds, spread
from fedpipe import pinning, provenance

ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=3, help="turns")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--models", nargs="*", default=None, help="of the zoo; all by default")
    arguments = parser.parse_args()
    pinning.pin()
    from fedpipe.config.train import MODELS
    from fedpipe.datasets.shards import write_shards

    images, labels = downloaded_training_set()
    zoo = arguments.models or [name for name in MODELS.names if name != "keras_file"]
    twins = [name for name in keras_twins.TWINS if name in zoo]
    with tempfile.TemporaryDirectory() as folder:
        shards = Path(folder, "shards")
        shards.mkdir()
        write_shards(shards, "mnist", images, labels, np.array_split(np.arange(60_000), 600), 10)
        files = {name: write_keras_file(name, Path(folder)) for name in twins}
        rows = [(name, name, "") for name in zoo]
        rows += [(f"{name} as Keras layers", f"keras:{name}", "") for name in twins]
        rows += [(f"{name} from a .keras file", "keras_file", files[name]) for name in twins]
        turns = [measure(rows, arguments.clients, shards, turn) for turn in range(arguments.processes)]
    report(zoo, twins, turns)
    store(
        models={
            "machine": provenance.collect() | {"cores": CORES},
            "clients": arguments.clients,
            "cpu_ms_per_client": {name: summary(name, turns) for name, *_ in rows},
            "turns": turns,
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


def measure(rows: list[tuple[str, str, str]], clients: int, shards: Path, turn: int) -> dict[str, dict[str, float]]:
    """CPU milliseconds per client of each row, with federation and without, one process after the other."""
    found = {}
    for name, model, file in rows:
        with_federation = fedpipe(clients, ROUNDS, shards, model, file)
        bare = bound(model, clients, ROUNDS, file, processes=1)
        found[name] = {
            "fedpipe": 1e3 * round_seconds(with_federation, "cpu_seconds") / clients,
            "bare": 1e3 * round_seconds(bare, "cpu_seconds") / clients,
        }
        print(f"turn {turn + 1}: {name}: {found[name]['fedpipe']:.2f}, bare {found[name]['bare']:.2f}", flush=True)
    return found


def summary(name: str, turns: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Spreads over the turns, and of the ratios within each."""
    plain = {kind: spread([turn[name][kind] for turn in turns]) for kind in ("fedpipe", "bare")}
    return plain | {"fedpipe / bare": spread([turn[name]["fedpipe"] / turn[name]["bare"] for turn in turns])}


def report(zoo: list[str], twins: list[str], turns: list[dict[str, dict[str, float]]]) -> None:
    print(f"\n{'CPU ms per client, medians':36} {'fedpipe':>9} {'bare TF':>9} {'ratio':>7}")
    for name in zoo:
        found = {key: value["median"] for key, value in summary(name, turns).items()}
        print(f"{name:36} {found['fedpipe']:9.2f} {found['bare']:9.2f} {found['fedpipe / bare']:7.2f}")
    print(f"\n{'ways to bring a model, in fedpipe':36} {'CPU ms':>9} {'beside the hand-written pass':>30}")
    for name in twins:
        for way in (name, f"{name} as Keras layers", f"{name} from a .keras file"):
            ratio = spread([turn[way]["fedpipe"] / turn[name]["fedpipe"] for turn in turns])["median"]
            print(f"{way:36} {summary(way, turns)['fedpipe']['median']:9.2f} {ratio:30.2f}")


if __name__ == "__main__":
    main()
