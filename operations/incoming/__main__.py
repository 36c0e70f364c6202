"""``python -m operations.incoming``: take new batches into the pool, and samples out of it.

python -m operations.incoming               checks the batches in data/incoming/; moves them into the pool or aside
python -m operations.incoming fetch URL     copies the batches that the pool does not have from a folder or bucket first
python -m operations.incoming list          says which batches wait in data/held/, and why
python -m operations.incoming release NAME  takes a batch that waits into the pool
python -m operations.incoming reject NAME   moves it to data/rejected/, and it is not fetched again
python -m operations.incoming withdraw NAME takes a batch out of the pool
python -m operations.incoming withdraw client ID   takes the samples of a client out of the pool and the next training

release and reject are written to data/pool/decisions.csv, and withdraw to data/pool/ledger.csv: commit these files.
Where data/held/ does not have the batch, --sha256 names its content (the reason for the hold ends with it).
"""

import argparse
import shutil
import sys
from collections.abc import Sequence

from pydantic import ValidationError

import layout
from fedpipe import params
from fedpipe.command_line import make_command
from fedpipe.config.mistakes import mistakes
from fedpipe.contracts.partition import PARTITIONERS
from fedpipe.datasets.pool import Pool
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import PipelineError, run_stage
from fedpipe.spelling import did_you_mean
from operations.incoming.decisions import Decision, record
from operations.incoming.fetch import fetch
from operations.incoming.folders import HELD, INCOMING, REJECTED, files_of, forget, move_aside
from operations.incoming.held import held
from operations.incoming.hold import Limits
from operations.incoming.ingest import Ingested, Rules, ingest
from operations.incoming.trained_on import models_trained_on
from operations.incoming.withdraw import Withdrawn, withdraw_batch, withdraw_client
from operations.retrain.lock import exclusive_lock


def take_in(url: str | None = None, only: str | None = None) -> Ingested:
    """Fetches from ``url``, if one is given, ingests, and prints one line per batch; ``only`` names a single batch.

    Raises:
      PipelineError: As `fetch` and `ingest`, the data set is not there to check batches against, params.yaml is not
        valid, or MLflow cannot be reached.
    """
    dataset = RawDataset.read(layout.RAW)
    rules = _rules(dataset)
    if url:
        names = fetch(url)
        _say(f"{len(names)} batches fetched from {url}")
    result = ingest(dataset, rules, only)
    for entry in result.accepted:
        _say(f"{entry.batch}: {entry.samples:,} samples, pool version {entry.version}")
    for name in result.known:
        _say(f"{name}: in the pool already")
    for name, reason in result.held.items():
        _say(f"{name}: on hold in {HELD}: {reason}")
    for name, reason in result.rejected.items():
        _say(f"{name}: rejected, in {REJECTED}: {reason}")
    for name in result.waiting:
        _say(f"{name}: left in {INCOMING} for now: a file of it or a .sha256 is not there yet")
    if not (result.accepted or result.known or result.rejected or result.waiting or result.held):
        _say(f"no batch in {INCOMING}")
    return result


def _rules(dataset: RawDataset) -> Rules:
    partition = params.load(params.Partition, layout.PARAMS)
    if PARTITIONERS.of(partition.scheme).AT_SITES:
        raise PipelineError(
            f"params.yaml: 'partition.scheme' is {partition.scheme}, and no training would use a batch that is "
            "here: run this at the site that has the samples, then `dvc repro --force partition` here"
        )
    named_by = partition.scheme if PARTITIONERS.of(partition.scheme).client_names else None
    return Rules(named_by, Limits(dataset, params.load(params.Incoming, layout.PARAMS).hold).reasons)


def _list() -> None:
    waiting = held()
    for name, reason in waiting.items():
        _say(f"{name}: on hold in {HELD}: {reason}")
    if waiting:
        _say('release or reject one: make incoming ARGS="release NAME", ARGS="reject NAME"')
    else:
        _say(f"no batch on hold in {HELD}")


def _decide(name: str, decision: str, sha256: str | None, reason: str) -> None:
    """Records a decision about a batch, and moves the batch if it is here."""
    files = files_of(HELD, name)
    held_for = held().get(name, "")
    content = sha256 or held_for.rpartition("SHA-256 ")[2]
    if not content:
        raise PipelineError(
            f"there is no batch '{name}' in {HELD}{did_you_mean(name, list(held()))}: fetch it "
            '(make incoming ARGS="fetch URL"), or name its content with --sha256, as the reason for the hold has it'
        )
    row = _decision(name, content, decision, reason)
    path = Pool(layout.POOL).decisions
    record(path, row)
    _say(f"{name}: {decision} in {path}; commit this file")
    if not files:
        return
    if decision == "rejected":
        move_aside(REJECTED, name, files, reason or f"{path} rejects it. {held_for}")
        forget(HELD, name)
        return
    INCOMING.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.move(file, INCOMING / file.name)
    forget(HELD, name)  # the reason is left
    take_in(only=name)


def _decision(name: str, sha256: str, decision: str, reason: str) -> Decision:
    try:
        return Decision.model_validate(
            {"batch": name, "sha256": sha256, "decision": decision, "reason": " ".join(reason.split())}
        )
    except ValidationError as error:
        raise PipelineError("; ".join(mistakes(error, Decision))) from None


def _withdraw(words: Sequence[str]) -> None:
    dataset = RawDataset.read(layout.RAW)
    match words:
        case [name]:
            what, done = name, withdraw_batch(name)
        case ["client", client]:
            what, done = f"client {client}", withdraw_client(client, dataset, _published_clients(dataset))
        case _:
            raise PipelineError('withdraw takes the name of a batch, or "client" and the name of a client')
    _tell(what, done, dataset)


def _published_clients(dataset: RawDataset) -> list[str]:
    """The client of each published sample, by name; none where the scheme's clients have no names."""
    from fedpipe.partitioning.growth import published_clients  # pandas
    from fedpipe.partitioning.own_clients import with_own_clients

    partition = with_own_clients(params.load(params.Partition, layout.PARAMS), dataset, layout.RAW)
    return published_clients(dataset.kind.binned(dataset.read_train(layout.RAW)[1]), partition)


def _tell(what: str, done: Withdrawn, dataset: RawDataset) -> None:
    counts = [f"{samples:,} samples of batch {batch}" for batch, samples in done.samples.items()]
    if done.published:
        counts.append(f"{done.published:,} published samples")
    _say(f"{what}: withdrawn in pool version {done.version}: {', '.join(counts)}")
    _say(f"commit {Pool(layout.POOL).folder}; `make retrain` then trains without these samples")
    entries = Pool(layout.POOL).read_ledger()
    models = models_trained_on(done.samples, entries, dataset.name)
    for model in models:
        _say(f"trained on them: {model}")
    if done.published:
        _say(f"trained on the published samples: every model of {dataset.name} before this version of the pool")
    elif not models:
        _say("no model of the registry or of a tag in git was trained on them")
    if params.load(params.Train, layout.PARAMS).init == "champion":
        _say("'train.init' is champion: the next training starts from weights that may have seen them; fresh does not")
    _say("DVC's cache and remote still have the samples until `dvc gc` (docs/incoming.md)")


def _say(line: str) -> None:
    # One line, whatever the name of a file: GitHub Actions takes some lines for commands.
    print(f"incoming: {' '.join(line.split())}", file=sys.stderr, flush=True)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, **make_command("incoming"))
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("fetch", **make_command("incoming fetch")).add_argument("url")
    commands.add_parser("list", **make_command("incoming list"))
    for name in ("release", "reject"):
        deciding = commands.add_parser(name, **make_command(f"incoming {name}"))
        deciding.add_argument("name")
        deciding.add_argument("--sha256", help="of the batch, where data/held/ does not have it")
        deciding.add_argument("--reason", default="", help="written to data/pool/decisions.csv")
    withdrawing = commands.add_parser("withdraw", **make_command("incoming withdraw"))
    withdrawing.add_argument("words", nargs="+", metavar="NAME | client ID")
    options = parser.parse_args()
    if options.command == "list":
        _list()
        return
    with exclusive_lock():
        match options.command:
            case "release" | "reject":
                decision = {"release": "released", "reject": "rejected"}[options.command]
                _decide(options.name, decision, options.sha256, options.reason)
            case "withdraw":
                _withdraw(options.words)
            case command:
                take_in(options.url if command else None)


if __name__ == "__main__":
    run_stage(_main)
