"""FedSGD: each client sends the gradient of all its samples, and the server takes one step along their mean.

    w' = w - server_rate x sum_k n_k g_k / sum_k n_k,   g_k = gradient of client k's mean loss at w

It is large-batch SGD, the baseline of FedAvg. The learning rate is ``train.server_optimizer.learning_rate``. Clients
take no steps, so ``train.local_epochs`` must be 1, and of the clients' optimizer nothing is used: its learning rate has
no effect, and other choices of it are rejected. Dropout is off.

Source: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data", section 2,
https://arxiv.org/abs/1602.05629.
"""

from fedpipe.config.optimizers import ClientOptimizer
from fedpipe.config.train import Train
from fedpipe.contracts.cost import Cost
from fedpipe.learning.interface import Client, Contribution, Server, Total
from fedpipe.learning.task import Task

ONE_MESSAGE = True  # clients send an update of weight 1 or their number of examples, and nothing besides


def check(settings: Train) -> None:
    """Raises ValueError for several epochs, for parts of an epoch, and for what is done to gradients of local steps."""
    optimizer = settings.client_optimizer
    if settings.last_batch == "drop":
        raise ValueError("'train.algorithm' fed_sgd takes the gradient of all samples: set 'train.last_batch' to keep")
    if settings.local_steps is not None:
        raise ValueError("'train.algorithm' fed_sgd takes no local steps: remove 'train.local_steps'")
    if settings.local_epochs != 1:
        raise ValueError("'train.algorithm' fed_sgd takes no local steps: set 'train.local_epochs' to 1")
    if settings.availability.stragglers.share:
        raise ValueError(
            "'train.algorithm' fed_sgd takes no local steps, of which a straggler would do a part: set "
            "'train.availability.stragglers.share' to 0.0"
        )
    if settings.shuffle:
        raise ValueError(
            "'train.algorithm' fed_sgd takes the gradient of all samples, whatever their order: set 'train.shuffle' to "
            "false"
        )
    _check_unused(optimizer)
    if optimizer.weight_decay or optimizer.clip_norm:
        raise ValueError(
            "'train.algorithm' fed_sgd takes no local steps: set 'train.client_optimizer.weight_decay' and "
            "'train.client_optimizer.clip_norm' to 0.0"
        )


def _check_unused(optimizer: ClientOptimizer) -> None:
    """Raises ValueError for a clients' optimizer other than plain SGD, which alone has nothing but an unused rate."""
    schedule = optimizer.schedule
    unused = {
        "name": optimizer.name if optimizer.name != "sgd" else "",
        "momentum": optimizer.momentum,
        "schedule.name": schedule.name if schedule.name != "constant" else "",
        "schedule.warm_up": schedule.warm_up,
    }
    off = {"name": "sgd", "momentum": "0.0", "schedule.name": "constant", "schedule.warm_up": "0"}
    for key, value in unused.items():
        if value:
            raise ValueError(
                f"'train.client_optimizer.{key}' is {value}, and with 'train.algorithm' fed_sgd clients take no steps: "
                f"set it to {off[key]} (rate, momentum and schedule are those of 'train.server_optimizer')"
            )


def cost(settings: Train) -> Cost:
    """The gradient of all samples."""
    return Cost(0, 1)


def client_update(task: Task, server: Server, client: Client) -> Contribution:
    """The gradient at the global weights."""
    gradient, measurements = task.measured_gradient(server.weights, client)
    return Contribution(gradient, task.weight(client), measurements)


def server_update(task: Task, server: Server, total: Total) -> Server:
    """A step along the mean gradient."""
    return task.server_step(server, total.update)
