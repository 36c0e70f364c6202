"""Runs a training's process on a TFF worker, a cohort in chunks: fast, in one order, in memory that does not grow.

TFF's own context sends the weights and every graph anew each round, and holds all clients' updates at once. Here graphs
and server state stay on the worker; the cohort goes through in groups of clients, some groups at a time; and all sums
are merged in the order of the cohort. So results depend on `group_sizes` and `CHUNK`, not on the number of cores, and
so does the memory, not on the number of clients.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import grpc
import numpy as np
import tensorflow_federated as tff

from fedpipe.errors import PipelineError
from fedpipe.learning.process import Pass, Process
from fedpipe.runtime.phases import Phases
from fedpipe.runtime.stopping import held
from fedpipe.runtime.worker import Worker

# The largest and smallest number of clients that one call of a graph takes, one after the other; and into how many
# parts the clients that are left are cut, so that groups become smaller and all cores end a round at the same time.
# Another value of these or of `CHUNK` adds in another order: other bits.
LARGEST_GROUP, SMALLEST_GROUP, PARTS = 10, 2, 6
# Groups that go to the worker at once; a second chunk waits there, so that no core idles. Each holds one accumulator.
CHUNK = 20

_MAX_MESSAGE = 2**31 - 1
_CHANNEL_OPTIONS = [
    ("grpc.enable_http_proxy", 0),  # or http_proxy would be asked for the way to this very machine
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.max_send_message_length", _MAX_MESSAGE),
]


class _NoContext(tff.framework.SyncContext):
    """TFF's default context would start a worker of its own, unpinned and left behind; nothing here is to use it."""

    def invoke(self, comp: Any, arg: Any) -> Any:
        raise RuntimeError(f"{comp.type_signature} was called outside of an Engine")


tff.framework.set_default_context(_NoContext())


def group_sizes(clients: int) -> list[int]:
    """How many clients of a cohort each group has, in order: large groups first, small ones at the end."""
    sizes = []
    while clients:
        sizes.append(min(max(SMALLEST_GROUP, min(LARGEST_GROUP, clients // PARTS)), clients))
        clients -= sizes[-1]
    return sizes


class Engine:
    """A training's process and its state on a worker."""

    def __init__(self, process: Process, worker: Worker, cohort: int, phases: Phases | None = None) -> None:
        """Sends the process to the worker.

        Args:
          process: The training.
          worker: Where it runs.
          cohort: How many clients a round has; state stays with the worker's executor for chunks of that size.
          phases: Counts where a round's time goes.
        """
        self._phases = phases or Phases()
        self._worker = worker
        self._process = process
        self._passes = [_Compiled(one) for one in process.passes]
        self._get_weights = _at_server(process.get_weights)
        self._executors: dict[int, _Executor] = {}
        self._server = self._executor(min(CHUNK, max(len(group_sizes(cohort)), 1)))
        self._state = self._before = self._server.call(_at_server(process.initialize))
        self.rounds = 0  # that ended here

    def run_round(self, clients: np.ndarray, done: Callable[[int], None] = lambda clients: None) -> dict[str, Any]:
        """Runs one round over ``clients`` and returns what its last pass measured, by name.

        Args:
          clients: int32 [cohort, 3], from `ClientReader.asked`; there may be none.
          done: Is told how many clients of a pass have ended, as chunks come back.

        Raises:
          PipelineError: The worker ended, or a client failed (its shard is unreadable, for instance).
        """
        server, state, measured = self._server, self._state, None
        for one in self._passes:
            total = self._sum(one, state, np.asarray(clients, np.int32), done)
            result = server.call(one.update, server.struct(state, total))
            state, measured = server.select(result, 0), server.select(result, 1)
        with self._phases.timed("aggregate"):
            values = server.fetch(measured)
        with held():
            self._before, self._state, self.rounds = self._state, state, self.rounds + 1
        found = dict(zip(self._process.measurements, values, strict=True))
        self._phases.split_clients(found)
        return found

    def skip_round(self) -> dict[str, Any]:
        """A round in which nobody takes part: the state stays as it is, but for the round's number, its last leaf."""
        *leaves, number = self.state()
        state = self._value((*leaves, number + np.int32(1)))
        with held():
            self._before, self._state, self.rounds = self._state, state, self.rounds + 1
        found: dict[str, Any] = dict.fromkeys(self._process.measurements, 0)
        self._phases.split_clients(found)
        return found

    def weights(self) -> list[np.ndarray]:
        """The global model's weights, float32 arrays in the model's order."""
        return list(self._server.fetch(self._server.call(self._get_weights, self._state)))

    def state(self, before_last: bool = False) -> list[np.ndarray]:
        """Every leaf of the server's state, in an order that depends on the process only.

        Args:
          before_last: The state before the last round instead of the one after it.
        """
        leaves = self._server.fetch(self._before if before_last else self._state)
        return [np.asarray(leaf) for leaf in leaves]

    def restore(self, state: Sequence[np.ndarray]) -> None:
        """Goes on from what `state` gave."""
        self._state = self._before = self._value(tuple(state))

    def close(self) -> None:
        """Lets go of everything on the worker; call it before the worker ends, or after."""
        for executor in self._executors.values():
            executor.close()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _value(self, state: tuple[np.ndarray, ...]) -> Any:
        """``state`` on the worker."""
        return self._server.value(state, tff.FederatedType(self._process.server.type, tff.SERVER))

    def _sum(self, one: "_Compiled", state: Any, clients: np.ndarray, done: Callable[[int], None]) -> Any:
        """The accumulator over all ``clients``, as a value of the executor that has the state."""
        server = self._server
        message = server.call(one.prepare, state)
        groups = np.split(clients, np.cumsum(group_sizes(len(clients)))[:-1]) if len(clients) else []
        total: Any = None
        ended = 0
        started: deque[tuple[int, _Executor, Any]] = deque()
        for start in range(0, len(groups), CHUNK):
            chunk = groups[start : start + CHUNK]
            started.append((sum(map(len, chunk)), *self._start(one, message, chunk)))
            while len(started) > 1 or (started and start + CHUNK >= len(groups)):
                count, executor, partial = started.popleft()
                total, ended = self._merge(one, total, executor, partial), ended + count
                done(ended)
        return server.call(one.zero) if total is None else total

    def _start(self, one: "_Compiled", message: Any, groups: list[np.ndarray]) -> "tuple[_Executor, Any]":
        """Hands ``groups`` to the worker; what comes back is the executor, and its value of their sum."""
        executor = self._executor(len(groups))
        if executor is not self._server:
            message = executor.copy(message)
        ids = executor.value(groups, one.groups_type)
        with self._phases.timed("clients"):  # TFF returns when most of the work is done
            return executor, executor.call(one.work, executor.struct(message, ids))

    def _merge(self, one: "_Compiled", total: Any, executor: "_Executor", partial: Any) -> Any:
        """Waits for ``partial``, or all chunks would be in memory at once, and adds it to ``total``."""
        server = self._server
        with self._phases.timed("clients"):
            executor.wait(partial)
        if executor is not server:
            partial = server.copy(partial)
        return partial if total is None else server.call(one.merge, server.struct(total, partial))

    def _executor(self, cardinality: int) -> "_Executor":
        if cardinality not in self._executors:
            self._executors[cardinality] = _Executor(self._worker, cardinality)
        return self._executors[cardinality]


class _Compiled:
    """A pass as computations that take and give values at the server, so that only measurements leave the worker."""

    def __init__(self, one: Pass) -> None:
        message_type = tff.FederatedType(one.prepare.type_signature.result, tff.SERVER)
        self.groups_type = tff.FederatedType(one.ids_type, tff.CLIENTS)
        identity = tff.tensorflow.computation(lambda total: total, one.zero.type_signature.result)

        @tff.federated_computation(message_type, self.groups_type)
        def work(message, groups):  # type: ignore[no-untyped-def]
            sums = tff.federated_map(one.work, (tff.federated_broadcast(message), groups))
            return tff.federated_aggregate(sums, one.zero(), one.merge, one.merge, identity)

        self.work = _native(work)
        self.prepare, self.zero = _at_server(one.prepare), _at_server(one.zero)
        self.merge, self.update = _at_server(one.merge), _at_server(one.update)


def _at_server(function: tff.Computation) -> tff.Computation:
    """``function`` of values at the server; tuples of flat tuples become tuples of values that can be taken apart."""
    parameter, result = function.type_signature.parameter, function.type_signature.result

    def taken_apart(value: Any) -> Any:
        return tuple(value[index] for index in range(len(result))) if _holds_tuples(result) else value

    if parameter is None:

        @tff.federated_computation
        def evaluated():  # type: ignore[no-untyped-def]
            return tff.federated_eval(function, tff.SERVER)

        return _native(evaluated)
    if _holds_tuples(parameter):
        parameter = tff.StructType([tff.FederatedType(part, tff.SERVER) for part in parameter])
    else:
        parameter = tff.FederatedType(parameter, tff.SERVER)

    @tff.federated_computation(parameter)
    def mapped(value):  # type: ignore[no-untyped-def]
        return taken_apart(tff.federated_map(function, value))

    return _native(mapped)


def _holds_tuples(kind: tff.Type) -> bool:
    return isinstance(kind, tff.StructType) and all(isinstance(part, tff.StructType) for part in kind)


_native = tff.backends.native.desugar_and_transform_to_native


class _Executor:
    """Values on the worker, for one number of clients; every error of the worker comes out as a PipelineError."""

    def __init__(self, worker: Worker, cardinality: int) -> None:
        self._worker = worker
        channel = grpc.insecure_channel(worker.address, _CHANNEL_OPTIONS)
        stub = tff.framework.RemoteExecutorGrpcStub(channel)
        self._remote = tff.framework.RemoteExecutor(stub, dispose_batch_size=1)
        self._guard(lambda: self._remote.set_cardinalities({tff.CLIENTS: cardinality}))
        self._computations: dict[int, Any] = {}

    def close(self) -> None:
        """Forgets every value; without this each would call the worker when Python ends."""
        self._remote.close()

    def value(self, value: Any, value_type: tff.Type) -> Any:
        """Sends ``value`` to the worker."""
        return self._run(self._remote.create_value(value, value_type))

    def call(self, computation: tff.Computation, argument: Any = None) -> Any:
        """Starts ``computation`` on the worker; its graph is sent once."""
        key = id(computation)
        if key not in self._computations:
            self._computations[key] = self.value(computation, computation.type_signature)
        return self._run(self._remote.create_call(self._computations[key], argument))

    def struct(self, *elements: Any) -> Any:
        """An unnamed tuple of values on the worker."""
        return self._run(self._remote.create_struct(elements))

    def select(self, source: Any, index: int) -> Any:
        """An element of a tuple on the worker."""
        return self._run(self._remote.create_selection(source, index))

    def fetch(self, value: Any) -> Any:
        """Waits for ``value`` and brings it here."""
        return tff.types.type_to_py_container(self._run(value.compute()), value.type_signature)

    def wait(self, value: Any) -> None:
        """Waits until ``value`` is computed."""
        self._run(value.compute())

    def copy(self, value: Any) -> Any:
        """A value of another executor, sent to this one."""
        return self.value(self._run(value.compute()), value.type_signature)

    def _run(self, coroutine: Any) -> Any:
        return self._guard(lambda: asyncio.run(coroutine))

    def _guard(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except (grpc.RpcError, tff.framework.RetryableError) as error:
            lost = isinstance(error, tff.framework.RetryableError)  # no connection: it may be just ending
            self._worker.check_alive(grace=2.0 if lost else 0.0)
            details = error.details() if isinstance(error, grpc.Call) else str(error)
            first = str(details).strip().splitlines()[0] if details else type(error).__name__
            raise PipelineError(f"a client failed on the TFF worker: {first}") from error
