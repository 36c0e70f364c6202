"""Where this project's files are: the one place that stages, operations and benchmarks share.

The library knows none of these paths; its functions take them as arguments (tests/test_layout.py). dvc.yaml names the
same files for DVC. All are relative to the project's folder, in which every command runs.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedpipe.tracking.outbox import Outbox
    from fedpipe.tracking.pipeline import PipelineFiles
    from fedpipe.tracking.registry import Registry

PIPELINE = Path("dvc.yaml")
PARAMS = Path("params.yaml")
LOCK = Path("dvc.lock")
CLUSTER = Path("cluster.yaml")
FEDERATION = Path("federation.yaml")  # where this coordinator listens, if it is one
POLICY = Path("policy.yaml")  # what this site allows, if it is one of a federation
ROSTER = Path("roster.yaml")  # the sites of secure sums and their public keys
FEDERATION_CERTIFICATES = Path("federation-certificates")
DATABASE = Path("mlflow.db")  # MLflow's store where MLFLOW_TRACKING_URI names no other

RAW = Path("data/raw")
CLIENTS = Path("data/clients")
CLIENT_TESTS = Path("data/client_tests")
SKEW_TABLE = "skew.csv"  # in CLIENTS, where clients' images or labels are skewed
HELD_OUT_CLIENTS = Path("data/held_out_clients")  # that never train: folders of shards `clients` and `tests`
VALIDATION = Path("data/validation")  # of no client; without samples with 'partition.validation' 0
POOL = Path("data/pool")

WEIGHTS = Path("models/weights.safetensors")
BEST = Path("models/best.safetensors")  # of the round that 'train.selection' chooses, with 'train.keep_best'
PERSONAL = Path("models/personal.safetensors")  # the clients' own models; without tensors if the algorithm has none
INITIAL = Path("models/initial.safetensors")
INITIAL_POINTER = Path("models/initial.json")
CHAMPION_MARKER = Path("models/champion.json")  # the champion that git names
REGISTRY = Path("models/registry")  # downloads from the model registry

PARTITION = Path("metrics/partition.json")
TRAINING = Path("metrics/training.json")
ROUNDS = Path("metrics/rounds.csv")
CLIENT_ROUNDS = Path("metrics/client_rounds.csv")  # without rows unless 'train.client_rounds' is true
EVALUATION = Path("metrics/evaluation.json")
CLASS_TABLE = Path("metrics/classes.csv")
CLIENT_TABLE = Path("metrics/clients.csv")
COPIES = Path("metrics/copies")  # a folder for each stage

PARTITION_TABLE = Path("plots/partition.csv")
PARTITION_PICTURE = Path("plots/partition.png")
TRAINING_PICTURE = Path("plots/training.png")
PREDICTIONS = Path("plots/predictions.csv")
CONFUSION_PICTURE = Path("plots/confusion.png")
CLIENT_PICTURE = Path("plots/clients.png")

EXPORTS = Path("exports")  # models for other runtimes, a folder for each format

LOGS = Path("logs")
CLUSTER_LOGS = LOGS / "cluster"
FEDERATION_LOGS = LOGS / "federation"  # of this site
PERSONAL_AT_SITE = Path("models/personal")  # of this site's clients, a file per training
SECURE_SUMS = LOGS / "secure-sums"  # of this coordinator, while a training runs
FEDERATION_DEMO = LOGS / "federation-demo"
TRACKING_LOG = LOGS / "tracking.log"
FAILURE = LOGS / "failure.json"  # of the stage that failed last
OUTBOX = LOGS / "tracking/pending"

# The code and the settings that the results of the pipeline rest on, besides params and data.
CODE = ("stages", "fedpipe", "layout.py", str(PIPELINE), "libraries.lock")

# A change of the pipeline's outputs is no change of the code: DVC deletes outputs before it makes them again.
WRITTEN = (LOCK, *map(Path, ("metrics", "plots", "models", "data", "logs")))


def stage_logs(stage: str) -> Path:
    """The folder for a stage's logs, and for the state from which it resumes when it was stopped."""
    return LOGS / stage


def stage_lock(stage: str) -> Path:
    """The file that keeps two processes from writing the stage's outputs at once."""
    return stage_logs(stage) / "lock"


def project() -> Path:
    """The project's folder: the current one (``.``), or the one whose temporary workspace the current one is.

    DVC gives a stage the project in ``DVC_ROOT`` and keeps the workspaces of experiments in its ``.dvc/tmp``. A
    ``DVC_ROOT`` that says anything else is another project's, of whose stage this process is a child.
    """
    root = Path(os.environ.get("DVC_ROOT", "")).resolve()
    return root if Path.cwd().resolve().is_relative_to(root / ".dvc/tmp") else Path()


def store() -> str:
    """MLflow's store: ``MLFLOW_TRACKING_URI``, else a SQLite file in the project's folder."""
    path = str(project().absolute() / DATABASE).replace("%", "%25").replace("?", "%3F")
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{path}"


def outbox() -> "Outbox":
    """Where stages leave their records for MLflow.

    Outbox and store are the project's: an experiment that DVC runs in a workspace of its own (``dvc exp run --temp``,
    the queue) uses those of the project that started it, since its workspace is removed when it ends.
    """
    from fedpipe.tracking.outbox import Outbox

    return Outbox(project() / OUTBOX, project() / TRACKING_LOG, store())


def registry() -> "Registry":
    """MLflow's model registry, which is in its store."""
    from fedpipe.tracking.registry import Registry

    return Registry(store(), REGISTRY)


def pipeline_files() -> "PipelineFiles":
    """These files hold the records of a training for MLflow."""
    from fedpipe.datasets.pool import Pool
    from fedpipe.tracking.pipeline import PipelineFiles

    return PipelineFiles(
        definition=PIPELINE,
        lock=LOCK,
        pool=Pool(POOL),
        shards=CLIENTS,
        rounds=ROUNDS,
        training=TRAINING,
        partition=PARTITION,
        written=WRITTEN,
    )
