"""FedAsync: clients train asynchronously, and the server mixes in each model as it arrives.

M clients are training at any time, each with the model that the server had when it started. Client k starts at w_r and
minimises F_k(w) + mu / 2 ||w - w_r||^2, which gives w_k. When w_k arrives, s steps of the server later, then

    w' = (1 - a) w + a w_k,   a = alpha x f(s)

    constant      f(s) = 1
    polynomial    f(s) = (1 + s)^-exponent
    hinge         f(s) = 1 if s <= late, else 1 / (slope (s - late) + 1)

A round is such a step (fedpipe/runtime/asynchronous.py says who starts and arrives when). With server SGD at rate 1 the
step is the paper's; in general w' is a step of the server optimizer with a (w - w_k) in the place of the gradient.
``train.client_weighting`` has no effect on a single model: clients count as often as they arrive.

Source: Xie et al. 2019, "Asynchronous Federated Optimization", algorithm 1 and section 5.2,
https://arxiv.org/abs/1903.03934.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from fedpipe.config.section import Concurrency, NotNegative, Section
from fedpipe.contracts.algorithm import Asynchrony
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Contribution, Server, Total
from fedpipe.learning.local_training import pulled_to
from fedpipe.learning.task import Task


class Params(Section):
    """``concurrency``: M; ``alpha``: how much of a fresh model is mixed in; ``mu``: how strong the pull back is.

    ``staleness``: f, with ``exponent``, or with ``slope`` and ``late`` (a and b of the paper).
    """

    concurrency: Concurrency = "all"
    alpha: Annotated[float, Field(gt=0, le=1)] = 0.6
    mu: NotNegative = 0.005
    staleness: Literal["constant", "polynomial", "hinge"] = "polynomial"
    exponent: NotNegative = 0.5
    slope: NotNegative = 10.0
    late: Annotated[int, Field(ge=0)] = 4

    def check_chosen(self) -> None:
        """Raises ValueError for a key of another f."""
        own = {"constant": (), "polynomial": ("exponent",), "hinge": ("slope", "late")}[self.staleness]
        for key in self.changed("exponent", "slope", "late"):
            if key not in own:
                f = "polynomial" if key == "exponent" else "hinge"
                raise ValueError(
                    f"'train.fed_async.{key}' is for 'staleness' {f}, and it is {self.staleness}: leave '{key}' out, "
                    f"or set 'staleness' to {f}"
                )


def asynchrony(params: Params) -> Asynchrony:
    """Concurrent clients, and one update a step."""
    return Asynchrony(params.concurrency, 1)


def client_update(task: Task, server: Server, client: Client) -> Contribution:
    """Trains from the weights of the round in which the client starts, with the proximal term."""
    mu = task.algorithm.mu
    local = task.train(server.weights, client, pulled_to(server.weights, mu) if mu else None)
    return Contribution(local.update, task.weight(client), local.measurements)


def under_way(task: Task, server: Server, update: list[Any]) -> list[Any]:
    """The client's model, for the server's will be another one when it arrives."""
    return [w - part for w, part in zip(server.weights, update, strict=True)]


def arrival(task: Task, server: Server, model: list[Any], staleness: Any) -> list[Any]:
    """a (w - w_k) for a client's ``model`` that arrives ``staleness`` rounds after its start, float32."""
    params = task.algorithm
    factor = tf.constant(1.0)
    if params.staleness == "polynomial":
        factor = tf.pow(1.0 + staleness, -params.exponent)
    elif params.staleness == "hinge":
        factor = 1.0 / (params.slope * tf.maximum(staleness - params.late, 0.0) + 1.0)
    return [params.alpha * factor * (w - mine) for w, mine in zip(server.weights, model, strict=True)]


def server_update(task: Task, server: Server, total: Total) -> Server:
    """Mixes the model in."""
    return task.server_step(server, total.update)
