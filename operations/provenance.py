"""``python -m operations.provenance``: compares this checkout's results with the committed ones.

python -m operations.provenance verify   compares results with those of the last commit, and says in a line what changed
python -m operations.provenance record   writes provenance.json, beside dvc.lock
"""

import json
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from fedpipe.atomic import write_text
from fedpipe.contracts.aggregator import AGGREGATORS
from fedpipe.errors import PipelineError, run_stage
from fedpipe.provenance import collect, differences
from layout import LOCK
from operations import against_commit, commands

RECORD = Path("provenance.json")


def verify() -> None:
    """Compares dvc.lock with the committed one, output by output, and prints what changed.

    Raises:
      PipelineError: Outputs differ though code, params and data do not; the message names them and the
        differences between the machines.
    """
    committed, current = _outputs(_committed_lock()), _outputs(LOCK.read_text(encoding="utf-8"))
    same_work = [stage for stage in current if committed.get(stage, {}).get("work") == current[stage]["work"]]
    secret = [stage for stage in same_work if _has_secret_noise(current[stage]["work"])]
    same_work = [stage for stage in same_work if stage not in secret]
    changed = [
        f"{path} (stage {stage})"
        for stage in same_work
        for path, digest in current[stage]["outs"].items()
        if committed[stage]["outs"].get(path) != digest
    ]
    if changed:
        raise PipelineError(f"other bits than the committed ones in {', '.join(changed)}: {_explanation()}")
    print(f"repro: {against_commit.sentence(committed, current, secret)}")


def _has_secret_noise(work: dict[str, Any]) -> bool:
    """Whether a stage adds noise of the system's generator: with 'train.privacy.noise' secret, or at sites."""
    params = work.get("params", {}).get("params.yaml", {})
    if "train.aggregator" not in params:
        return False
    aggregator, own = AGGREGATORS.of(params["train.aggregator"]), params.get(f"train.{params['train.aggregator']}", {})
    if aggregator.SUMS_INTEGERS and own.get("noise_multiplier", 0.0) > 0:
        return True
    return aggregator.is_private and params.get("train.privacy", {}).get("noise") == "secret"


def _explanation() -> str:
    if not RECORD.is_file():
        return f"{RECORD}, which says what they were made with, is missing"
    differing = differences(json.loads(RECORD.read_text(encoding="utf-8")), collect())
    if not differing:
        return "CPU, libraries and settings are the recorded ones, so this is a defect worth reporting"
    return "what differs from the machine of the committed results: " + "; ".join(differing)


def _committed_lock() -> str:
    try:
        return commands.git("show", f"HEAD:{LOCK}")
    except PipelineError as error:
        raise PipelineError(f"there is no committed {LOCK} to compare with: {error}") from None


def _outputs(lock: str) -> against_commit.Stages:
    """For each stage its ``work`` (command, code, params and inputs) and the digests of its ``outs``."""
    stages = YAML(typ="safe").load(lock)["stages"]
    return {
        name: {
            "work": {key: value for key, value in stage.items() if key != "outs"},
            "outs": {out["path"]: out["md5"] for out in stage.get("outs", [])},
        }
        for name, stage in stages.items()
    }


def _main() -> None:
    command = sys.argv[1] if len(sys.argv) == 2 else ""
    if command == "record":
        write_text(RECORD, json.dumps(collect(), indent=2) + "\n")
    elif command == "verify":
        verify()
    else:
        raise PipelineError("usage: python -m operations.provenance record | verify")


if __name__ == "__main__":
    run_stage(_main)
