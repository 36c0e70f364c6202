"""``python -m operations.drift``: how new batches differ from the data before them.

New are the batches of the pool that the committed results (HEAD's dvc.lock) were not trained on, or, with
--since VERSION, those that came after that version of the pool. Writes reports/drift.md, drift.json and drift.png.
"""

import argparse
import sys
from pathlib import Path

import layout
from fedpipe.atomic import write_text
from fedpipe.command_line import make_command
from fedpipe.datasets import pool
from fedpipe.datasets.pool import Entry, Pool
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import run_stage
from fedpipe.json_model import json_text
from operations.drift.champion import load_champion
from operations.drift.comparison import compare_batch, markdown
from operations.drift.measures import profile
from operations.drift.new import new_batches
from operations.drift.picture import plot

MARKDOWN = Path("reports/drift.md")
FIGURES = Path("reports/drift.json")
PICTURE = Path("reports/drift.png")


def main() -> None:
    """Reads data before and new, compares each new batch and all together, writes the report."""
    parser = argparse.ArgumentParser(description=__doc__, **make_command("drift"))
    parser.add_argument("--since", type=int, metavar="VERSION")
    since = parser.parse_args().since
    dataset = RawDataset.read(layout.RAW)
    ours = Pool(layout.POOL)
    rows = pool.of_dataset(ours.read_ledger(), dataset)
    entries = pool.present(rows)
    new = _new(entries, since)
    if not new:
        print("drift: no new batch to compare", file=sys.stderr)
        return
    kind = dataset.kind
    samples, labels = pool.join(
        [dataset.read_train(layout.RAW), *(ours.read_batch(entry) for entry in entries if entry not in new)]
    )
    former = samples, kind.binned(labels)
    test = dataset.read_test(layout.RAW)
    before = profile(*former, kind.bins)
    champion = load_champion(dataset, test)

    batches = {}
    for entry in new:
        samples, labels = ours.read_batch(entry)
        batches[f"{entry.batch} (version {entry.version})"] = samples, kind.binned(labels)
    everything = pool.join(list(batches.values()))
    known = (former[0], test[0])
    compared = [
        compare_batch(name, batch, before, known, champion) for name, batch in [*batches.items(), ("all", everything)]
    ]
    figures = {
        "dataset": dataset.name,
        "pool_version": pool.version(rows),
        "samples_before": len(former[1]),
        "labels_before": before.counts.tolist(),
        "champion": {"model": champion.name, "test_accuracy": champion.on_test} if champion else None,
        "batches": [part.as_dict(before.counts) for part in compared[:-1]],
        "all": compared[-1].as_dict(before.counts),
    }
    write_text(FIGURES, json_text(figures))
    write_text(MARKDOWN, markdown(compared, before, dataset.name, champion))
    draw_title = f"{dataset.name}: {len(everything[1]):,} new samples against {len(former[1]):,} before"
    plot(before, everything, draw_title, PICTURE)
    findings = compared[-1].findings(before.counts)
    print(f"drift: {'; '.join(findings) if findings else 'nothing stands out'} ({MARKDOWN})", file=sys.stderr)


def _new(entries: list[Entry], since: int | None) -> list[Entry]:
    if since is None:
        committed = new_batches(Pool(layout.POOL).read_ledger())
        return [entry for entry in entries if entry in committed]
    return [entry for entry in entries if entry.version > since]


if __name__ == "__main__":
    run_stage(main)
