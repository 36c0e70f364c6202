"""Seconds, CPU seconds and bytes per round of a federation on this machine, beside the simulation of the same sites.

Three sites with 3, 5 and 4 clients of 100 images train the model of params.yaml over gRPC and, where it is installed,
over NVIDIA FLARE; with and without secure sums. Subjects run one after the other, several times; a ratio compares runs
of the same turn. CPU seconds are those of all processes: coordinator, sites and NVIDIA FLARE's. Payload: the bytes of
questions and answers. Wire: traffic of the coordinator's TCP connections, TLS included, TCP and IP headers not.
"""

import argparse
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

import stages  # noqa: F401  (pins threads and kernels before TensorFlow loads)
from benchmarks.results import store
from benchmarks.subjects import CORES
from fedpipe import params, provenance
from fedpipe.config.train import StopAt, Train
from fedpipe.links.settings import LinkSettings
from fedpipe.runtime.rounds import CompletedRound, Hook
from fedpipe.runtime.worker import Worker
from layout import PARAMS
from operations.federation.demo import deal, exchange_keys, running_sites, train_here, train_over_sites
from operations.federation.local_flare import running_processes

if TYPE_CHECKING:
    from fedpipe.federation.answers import Link

NAMES, CLIENTS, SAMPLES = ["site-1", "site-2", "site-3"], [3, 5, 4], 100
SETTLED = 3  # rounds that come before those that count: graphs are built, connections reach their pace
LOCAL = "local"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="of a run (20)")
    parser.add_argument("--turns", type=int, default=3, help="how often each subject runs (3)")
    parser.add_argument("--links", nargs="+", choices=["grpc", "flare"], default=available())
    parser.add_argument("--aggregators", nargs="+", default=["mean", "secure_sum"])
    parser.add_argument("--store", action="store_true", help="write them to benchmarks/results.json")
    options = parser.parse_args()
    subjects = [(link, aggregator) for aggregator in options.aggregators for link in [LOCAL, *options.links]]
    runs: dict[tuple[str, str], list[dict[str, float]]] = {subject: [] for subject in subjects}
    for turn in range(options.turns):
        for link, aggregator in subjects:
            with tempfile.TemporaryDirectory() as folder:
                figures = measured(Path(folder), link, settings_of(aggregator, options.rounds))
            runs[link, aggregator].append(figures)
            listed = ", ".join(f"{name} {value:,.3f}" for name, value in figures.items())
            print(f"turn {turn + 1}: {link}, {aggregator}: {listed}", flush=True)
    lines = [summary(link, aggregator, runs) for link, aggregator in subjects]
    print(f"\n{'link':6} {'aggregator':11} {'s':>7} {'beside':>6} {'CPU s':>6} {'KB':>8} {'wire KB':>8} {'start s':>7}")
    for line in lines:
        print(
            f"{line['link']:6} {line['aggregator']:11} {line['seconds']:7.3f} {line['beside local']:6.2f} "
            f"{line['cpu_seconds']:6.3f} {line['payload'] / 1e3:8.1f} {line['wire'] / 1e3:8.1f} {line['start']:7.2f}"
        )
    if options.store:
        store(federation={"machine": provenance.collect() | {"cores": CORES}, "runs": lines})


def available() -> list[str]:
    """The links that are installed."""
    return ["grpc", *(["flare"] if find_spec("nvflare") is not None else [])]


def settings_of(aggregator: str, rounds: int) -> Train:
    """Section train of params.yaml with an aggregator."""
    text = params.load(Train, PARAMS).model_dump(mode="json", exclude_unset=True)
    text |= {"aggregator": aggregator, "rounds": rounds, "evaluate_every": 0, "keep_best": False, "init": "fresh"}
    text |= {"secure_sum": {"most_examples": SAMPLES}, "clients_per_round": "all"}
    return params.parse(Train, text).model_copy(update={"stop_at": StopAt()})


def summary(link: str, aggregator: str, runs: Mapping[tuple[str, str], list[dict[str, float]]]) -> dict[str, Any]:
    """Medians over the turns."""
    own, local = runs[link, aggregator], runs[LOCAL, aggregator]
    figures = {name: statistics.median(run[name] for run in own) for name in own[0]}
    beside = statistics.median(a["seconds"] / b["seconds"] for a, b in zip(own, local, strict=True))
    return {"link": link, "aggregator": aggregator, "beside local": beside} | figures


def measured(folder: Path, link: str, settings: Train) -> dict[str, float]:
    """Medians of a run's rounds."""
    deal(folder, NAMES, CLIENTS, SAMPLES)
    exchange_keys(folder, NAMES)
    if link == LOCAL:
        with Worker(folder / "worker.log") as worker:
            meter = Meter([], 0)
            train_here(settings, folder / "pooled", folder / "simulation", worker, hooks=[meter])
        return meter.figures() | {"start": 0.0}
    with running_sites(folder, NAMES, link) as way, Worker(folder / "coordinator/worker.log") as worker:
        time.sleep(15.0)  # the sites' processes load
        kits = [] if way.flare is None else [way.flare.server, *(way.flare.server.parent / name for name in NAMES)]
        meter, begin = Meter(kits, port_of(way)), time.monotonic()

        def around(opened: "Link") -> Counting:
            meter.link = Counting(opened, begin)
            return meter.link

        train_over_sites(folder, way, NAMES, settings, worker, hooks=[meter], around=around)
    return meter.figures() | {"start": meter.link.first_answer if meter.link else 0.0}


def port_of(way: LinkSettings) -> int:
    """The coordinator's port."""
    if way.flare is None:
        return int(way.address.rpartition(":")[2])
    text = (way.flare.server / "startup/fed_server.json").read_text(encoding="utf-8")
    return int(re.findall(r'"target": "localhost:(\d+)"', text)[0])


class Counting:
    """A link that counts the bytes of its messages."""

    def __init__(self, link: "Link", begin: float) -> None:
        self._link, self._begin = link, begin
        self.payload, self.first_answer = 0, 0.0

    def ask(self, questions: Mapping[str, bytes], *more: Any, **options: Any) -> Iterator[Any]:
        """As the link's."""
        self.payload += sum(map(len, questions.values()))
        for answer in self._link.ask(questions, *more, **options):
            self.first_answer = self.first_answer or time.monotonic() - self._begin
            self.payload += len(answer[1])
            yield answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)


class Meter(Hook):
    """Notes time, CPU and bytes at the end of each round."""

    def __init__(self, kits: Collection[Path], port: int) -> None:
        self._kits, self._port = kits, port
        self._marks: list[dict[str, float]] = []
        self.link: Counting | None = None

    def on_round_end(self, completed: CompletedRound) -> None:
        """Takes a reading."""
        own = psutil.Process()
        processes = {own, *own.children(recursive=True)}
        processes |= {process for kit in self._kits for process in running_processes(kit)}
        self._marks.append(
            {
                "seconds": time.monotonic(),
                "cpu_seconds": sum(map(cpu_seconds, processes)),
                "payload": self.link.payload if self.link else 0,
                "wire": wire_bytes(self._port) if self._port else 0,
            }
        )

    def figures(self) -> dict[str, float]:
        """The median round."""
        pairs = list(zip(self._marks[SETTLED - 1 :], self._marks[SETTLED:], strict=False))
        median = {name: statistics.median(b[name] - a[name] for a, b in pairs) for name in self._marks[0]}
        first, last = self._marks[SETTLED - 1], self._marks[-1]  # CPU time is counted in steps of 10 ms
        return median | {"cpu_seconds": (last["cpu_seconds"] - first["cpu_seconds"]) / len(pairs)}


def cpu_seconds(process: psutil.Process) -> float:
    with suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


def wire_bytes(port: int) -> int:
    """The traffic of the process that listens at ``port``, in both directions."""
    command = ["ss", "-tinH", "state", "established", f"sport = :{port}"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return sum(map(int, re.findall(r"bytes_(?:sent|received):(\d+)", output)))


if __name__ == "__main__":
    main()
