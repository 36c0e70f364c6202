"""An attacker trains on samples with false labels and sends the result.

Without ``source`` and ``target``, every label y becomes classes - 1 - y (Fang et al. 2020, "Local Model Poisoning
Attacks to Byzantine-Robust Federated Learning", section 4.1, https://arxiv.org/abs/1911.11815). With them, ``source``
becomes ``target`` and other labels stay (Tolpegin et al. 2020, "Data Poisoning Attacks Against Federated Learning
Systems", section 3.2, https://arxiv.org/abs/2007.08432).
"""

from fedpipe.config.section import Section, Size
from fedpipe.config.train import Train
from fedpipe.errors import PipelineError
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client
from fedpipe.learning.task import Task

NEEDS = "classes"


class Params(Section):
    """``source`` and ``target``: the label that is changed, and to which; null for both changes all labels."""

    source: Size | None = None
    target: Size | None = None


def check(settings: Train) -> None:
    """Raises ValueError if only one of the two labels is given."""
    params = settings.params_of("attack")
    if (params.source is None) != (params.target is None):
        raise ValueError("'train.label_flip' has only one of source and target: give both labels, or null for both")


def samples(task: Task, client: Client) -> Client:
    """The client's samples with false labels.

    Raises:
      PipelineError: Source or target is no class.
    """
    labels, source, target = client.labels, task.attack.source, task.attack.target
    last = task.network.spec.classes - 1
    if source is None:
        return client._replace(labels=tf.cast(last, tf.uint8) - labels)
    if max(source, target) > last:
        raise PipelineError(
            f"params.yaml: 'train.label_flip' changes label {source} to {target}, but labels are 0 to {last}: give two "
            "of them"
        )
    return client._replace(labels=tf.where(tf.equal(labels, source), tf.cast(target, tf.uint8), labels))
