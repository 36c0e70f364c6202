"""The contract of fedpipe/algorithms: a client's work in a round, and the server's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from fedpipe.config.train import Train
from fedpipe.contracts.choice import ContractError, TrainChoice, constant, function
from fedpipe.contracts.cost import Cost
from fedpipe.contracts.registry import Registry

if TYPE_CHECKING:
    from fedpipe.learning.interface import Client, Contribution, MessageBytes, Server, Tensors, Total
    from fedpipe.learning.measurements import Measurements
    from fedpipe.learning.task import ClientUpdate, ServerUpdate, Task


class Asynchrony(NamedTuple):
    """How many clients train at a time, and how many updates the server takes for a step."""

    concurrency: int | Literal["all"]
    buffer_size: int


@dataclass(frozen=True, kw_only=True)
class Algorithm(TrainChoice):
    """A file of ``fedpipe/algorithms``: ``client_update`` and ``server_update``, or ``passes``."""

    client_update: ClientUpdate | None = function(
        "task, server, client", "A client's work in a round: trains, and returns its `Contribution`.", None
    )
    server_update: ServerUpdate | None = function(
        "task, server, total", "The server after a round, from the aggregated `Total` of the cohort.", None
    )
    passes: Callable[[Task], tuple[tuple[ClientUpdate, ServerUpdate], ...]] | None = function(
        "task", "The pairs of `client_update` and `server_update` of a round that has several passes.", None
    )
    server_init: Callable[[Task], Tensors] = function(
        "task", "The algorithm's state at the server before the first round.", lambda task: ()
    )
    broadcast: Callable[[Task, Server], Tensors] = function(
        "task, server",
        "The part of the algorithm's state that clients see; all of it without this name.",
        lambda task, server: server.state,
    )
    client_init: Callable[[Task], Tensors] | None = function(
        "task", "The state that a client keeps, before its first round.", None
    )
    update_zeros: Callable[[Task], list[Any]] = function(
        "task",
        "Zeros in the shapes of an update, if these are not the shapes of the weights.",
        lambda task: task.zeros(),
    )
    server_measurements: Callable[[Task, Server, Server, Total], Measurements] = function(
        "task, before, after, total",
        "Measurements of the server, by the name of their column, from the `Server` before and after the round.",
        lambda task, before, after, total: {},
    )
    message_bytes: Callable[[Task], MessageBytes] | None = function(
        "task", "`MessageBytes`, if a device would receive or send less than the tensors.", None
    )
    sendable: Callable[[Task, Client, Contribution, Contribution], Contribution] = function(
        "task, client, honest, attacked",
        "An attacker's contribution as a device can send it, and as a server would still take it.",
        lambda task, client, honest, attacked: attacked,
    )
    cost: Callable[[Train], Cost] = function(
        "settings",
        "`Cost` of a client's round for simulated time, if it is more than `local_epochs` of local steps.",
        lambda settings: Cost(settings.local_epochs),
    )
    personal: Callable[[Task, Server, Client], list[Any]] | None = function(
        "task, server, client", "The weights of the client's personal model.", None
    )
    cluster: Callable[[Task, Server, Client], Any] | None = function(
        "task, server, client",
        "The number of the client's model, int32, if the server's state holds `Params.clusters` models.",
        None,
    )
    asynchrony: Callable[[Any], Asynchrony] | None = function(
        "params", "`Asynchrony`: clients train all the time, and the server steps with a full buffer.", None
    )
    under_way: Callable[[Task, Server, list[Any]], list[Any]] = function(
        "task, server, update",
        "With `asynchrony`: the tensors that a client sends in place of its update.",
        lambda task, server, update: update,
    )
    arrival: Callable[[Task, Server, list[Any], Any], list[Any]] = function(
        "task, server, update, staleness",
        "With `asynchrony`: the update that is aggregated, `staleness` rounds (float32) after its client started.",
        lambda task, server, update, staleness: update,
    )
    NEEDS_WEIGHTS: bool = constant(False, "The method needs an aggregator that uses the weights of the contributions.")
    ALL_WEIGHTS: bool = constant(
        False,
        "Reads `Total.all_weights`; sites of a federation are asked for it where they tell no exact counts.",
    )
    BATCH_NORM: str = constant(
        "",
        "Of models that train batch normalization: `averaged`, its statistics are weights of the update that "
        "`Task.server_step` averages; `kept`, clients send none of its weights. Without the name such models are "
        "rejected.",
    )
    ONE_MESSAGE: bool = constant(
        False, "Clients send an update of weight 1 or their number of examples, and no `means` or `sums`."
    )

    POOLS_SAMPLES: bool = constant(
        False,
        "Every round has one client, number 0, with the samples of all clients; `Task.samples_before` says how many "
        "samples the cohorts of earlier rounds would have seen.",
    )
    HAS_NO_GLOBAL_MODEL: bool = constant(
        False,
        "With `personal`: the server's weights stay the first ones, and figures on validation and test samples are "
        "means over the personal models.",
    )

    def _check_names(self) -> None:
        if self.passes is None and (self.client_update is None or self.server_update is None):
            raise ContractError("does not define 'client_update' and 'server_update', or 'passes'")
        if self.BATCH_NORM not in ("", "averaged", "kept"):
            raise ContractError(f"says BATCH_NORM = {self.BATCH_NORM!r}; allowed: averaged, kept, or nothing")
        for name in ("under_way", "arrival"):
            if self.asynchrony is None and self.defines(name):
                raise ContractError(f"defines '{name}' without 'asynchrony'")
        if self.asynchrony is not None and self.passes is not None:
            raise ContractError("defines 'asynchrony' and 'passes': an asynchronous round has one pass")
        if self.cluster is not None and (self.personal is None or "clusters" not in self.Params.model_fields):
            raise ContractError("defines 'cluster', which needs 'personal' and a param 'clusters'")
        if self.HAS_NO_GLOBAL_MODEL and self.personal is None:
            raise ContractError("defines 'HAS_NO_GLOBAL_MODEL', which needs 'personal'")
        if self.POOLS_SAMPLES and self.keeps_files:
            raise ContractError("defines 'POOLS_SAMPLES', and clients that keep something, of which there are none")
        if self.ONE_MESSAGE and (self.NEEDS_WEIGHTS or self.passes is not None):
            other = "NEEDS_WEIGHTS" if self.NEEDS_WEIGHTS else "passes"
            raise ContractError(f"defines 'ONE_MESSAGE' and '{other}', which contradict each other")

    @property
    def is_asynchronous(self) -> bool:
        """Whether clients train asynchronously."""
        return self.asynchrony is not None

    @property
    def is_baseline(self) -> bool:
        """Whether nobody sends anything to anybody."""
        return self.POOLS_SAMPLES or self.HAS_NO_GLOBAL_MODEL

    @property
    def keeps_files(self) -> bool:
        """Whether each client keeps a file from round to round."""
        return self.client_init is not None or self.is_asynchronous

    def steps(self, task: Task) -> tuple[tuple[ClientUpdate, ServerUpdate], ...]:
        """The passes of a round, most often one."""
        if self.passes is not None:
            return self.passes(task)
        if self.client_update is None or self.server_update is None:  # `_check_names` refuses it
            raise ContractError("does not define 'client_update' and 'server_update'")
        return ((self.client_update, self.server_update),)


ALGORITHMS = Registry(Train.CHOICES["algorithm"], Algorithm)


def asynchrony_of(settings: Train) -> Asynchrony | None:
    """How the chosen algorithm trains asynchronously; None if it trains in rounds of cohorts."""
    rules = ALGORITHMS.of(settings.algorithm).asynchrony
    return None if rules is None else rules(settings.params_of("algorithm"))
