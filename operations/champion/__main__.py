"""``python -m operations.champion [FROM]``: the champion as a folder of its own, and back.

python -m operations.champion          writes champion/: weights, MLflow model, and a card with their SHA-256
python -m operations.champion FROM     brings the champion of another checkout here, and makes it this registry's

FROM is a folder or .zip that this command wrote, a URL of either (s3://...), or the number of a GitHub run, whose
artifact `gh` downloads. Only weights and card are read of it; the MLflow model is made anew with this checkout's code.
"""

import argparse
import sys

import layout
from fedpipe import params
from fedpipe.command_line import make_command
from fedpipe.errors import PipelineError, run_stage
from operations.champion import folder
from operations.champion.bring import bring
from operations.champion.fetch import fetched, shown


def main(arguments: list[str] | None = None) -> None:
    """Writes the champion, or brings one here."""
    options = _parse(arguments)
    if options.source:
        _bring(options.source, options.replace)
        return
    dataset = options.dataset or params.load(params.Download, layout.PARAMS).name
    registry = layout.registry()
    if options.if_any and registry.champion(dataset) is None:
        _say(f"no champion for {dataset} yet, so nothing is written")
        return
    version = registry.require_champion(dataset)
    card = folder.write(version)
    accuracy = f", test accuracy {card.accuracy:.4f}" if card.accuracy is not None else ""
    _say(f"{version} is in {folder.FOLDER}{accuracy}; {folder.FOLDER / folder.TEXT} says what it is")


def _bring(source: str, replace: bool) -> None:
    with fetched(source) as (card, weights):
        version = bring(card, weights, shown(source), replace)
    _say(f"{version} is champion here: {card.name} of {shown(source)}, commit {card.commit[:12]}")
    present = params.load(params.Download, layout.PARAMS).name
    if present != card.dataset:
        _say(
            f"params.yaml has the data set {present}, and this is a model for {card.dataset}: "
            f'`make serve ARGS="--dataset {card.dataset}"` serves it'
        )


def _say(line: str) -> None:
    print(f"champion: {line}", file=sys.stderr, flush=True)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, **make_command("champion", "FROM"))
    parser.add_argument("source", nargs="?", metavar="FROM", help="where to bring a champion from")
    parser.add_argument("--replace", action="store_true", help="also where another model is champion here")
    parser.add_argument("--dataset", help="the data set whose champion to write; else that of params.yaml")
    parser.add_argument(
        "--if-any", action="store_true", help="write nothing, without an error, if there is no champion"
    )
    options = parser.parse_args(arguments)
    if options.source and (options.dataset or options.if_any):
        parser.error("--dataset and --if-any are for writing, without FROM")
    if options.replace and not options.source:
        raise PipelineError("--replace is for bringing a champion here: name where it is with FROM=...")
    return options


if __name__ == "__main__":
    run_stage(main)
