"""Runs a learning process on a TFF worker, a cohort in chunks: fast, in one order, in memory that does not grow.

TFF's own context sends the weights and every graph anew each round, runs a client as a chain of small graphs, and
holds all clients' updates at once. Here the process is compiled to TFF's MapReduceForm, where a client is one graph;
graphs and server state stay on the worker; and the cohort goes through in chunks whose sums are merged in the order
of the chunks. So the bits rest on `CHUNK` but not on the cores, and the memory on `CHUNK` but not on the clients.
"""

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import grpc
import numpy as np
import tensorflow_federated as tff

from fedpipe.errors import PipelineError
from fedpipe.runtime.worker import Worker

# Clients in flight at once. Another value adds in another order, that is, gives other bits.
CHUNK = 100

_MAX_MESSAGE = 2**31 - 1
_CHANNEL_OPTIONS = [
    ("grpc.enable_http_proxy", 0),  # or http_proxy would be asked for the way to this very machine
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.max_send_message_length", _MAX_MESSAGE),
]


class _NoContext(tff.framework.SyncContext):
    """TFF's default context would start a worker of its own, unpinned and left behind; nothing here is to use it."""

    def invoke(self, comp: Any, arg: Any) -> Any:
        raise RuntimeError(f"{comp.type_signature} was called outside of a Runtime")


tff.framework.set_default_context(_NoContext())


class Runtime:
    """A learning process and its state on a worker.

    The process takes client ids (int32) as client data; its measurements and weights come back as Python containers
    of NumPy values.
    """

    def __init__(self, process: tff.learning.templates.LearningProcess, worker: Worker, cohort: int) -> None:
        """``cohort``: how many clients a round has; state stays with the worker's executor for chunks of that size."""
        self._worker = worker
        self._form = _Form(process)
        self._executors: dict[int, _Executor] = {}
        self._server = server = self._executor(min(CHUNK, cohort))
        started = server.call(self._form.start)
        self._state, self._broadcast = server.select(started, 0), server.select(started, 1)

    def run_round(self, clients: Sequence[int]) -> Any:
        """Runs one round over ``clients`` (ids, at least one) and returns the measurements of ``process.next``.

        Raises:
          PipelineError: The worker ended, or a client failed (its shard is unreadable, for instance).
        """
        server = self._server
        total: Any = None
        for start in range(0, len(clients), CHUNK):
            chunk = [int(client) for client in clients[start : start + CHUNK]]
            partial = self._run_chunk(chunk)
            total = partial if total is None else server.call(self._form.merge, server.struct(total, partial))
        result = server.call(self._form.after_merge, server.struct(self._state, total))
        self._state, self._broadcast = server.select(result, 0), server.select(result, 1)
        return server.fetch(server.select(result, 2))

    def weights(self) -> list[np.ndarray]:
        """The global model's trainable weights, float32 arrays in the model's order."""
        server = self._server
        return list(server.fetch(server.call(self._form.get_weights, self._state)))

    def close(self) -> None:
        """Lets go of everything on the worker; call it before the worker ends, or after."""
        for executor in self._executors.values():
            executor.close()

    def __enter__(self) -> "Runtime":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run_chunk(self, chunk: list[int]) -> Any:
        """The sum over ``chunk``'s clients, computed, as a value of the executor that has the state."""
        server, executor = self._server, self._executor(len(chunk))
        broadcast = self._broadcast if executor is server else executor.copy(self._broadcast)
        argument = executor.struct(broadcast, executor.value(chunk, self._form.clients_type))
        partial = executor.call(self._form.up_to_merge, argument)
        if executor is not server:
            return server.copy(partial)
        server.wait(partial)  # or all chunks would be in memory at once
        return partial

    def _executor(self, cardinality: int) -> "_Executor":
        if cardinality not in self._executors:
            self._executors[cardinality] = _Executor(self._worker, cardinality)
        return self._executors[cardinality]


class _Form:
    """The process as computations: what runs before, on, and after the clients.

    All take and give values at the server, so that everything but the measurements can stay on the worker.
    """

    def __init__(self, process: tff.learning.templates.LearningProcess) -> None:
        mapreduce = tff.backends.mapreduce
        form = mapreduce.get_map_reduce_form_for_computation(process.next)
        if any(len(secure) for secure in list(form.work.type_signature.result)[1:]):
            raise PipelineError("this runtime does not run secure sums: compose the process with another aggregator")
        initialize = mapreduce.get_state_initialization_computation(process.initialize)
        state_type = tff.FederatedType(form.prepare.type_signature.parameter, tff.SERVER)
        broadcast_type = tff.FederatedType(form.prepare.type_signature.result, tff.SERVER)
        sum_type = tff.FederatedType(form.merge.type_signature.result, tff.SERVER)
        self.clients_type = process.next.type_signature.parameter[1]
        identity = tff.tensorflow.computation(lambda x: x, sum_type.member)
        update = tff.tensorflow.computation(
            lambda state, total: form.update(state, (form.report(total), (), (), ())),
            (state_type.member, sum_type.member),
        )
        weights = tff.tensorflow.computation(
            lambda state: process.get_model_weights(state).trainable, state_type.member
        )

        @tff.federated_computation
        def start():  # type: ignore[no-untyped-def]
            state = tff.federated_eval(initialize, tff.SERVER)
            return state, tff.federated_map(form.prepare, state)

        @tff.federated_computation(broadcast_type, self.clients_type)
        def up_to_merge(broadcast, clients):  # type: ignore[no-untyped-def]
            work = tff.federated_map(form.work, (clients, tff.federated_broadcast(broadcast)))
            return tff.federated_aggregate(work[0], form.zero(), form.accumulate, form.merge, identity)

        @tff.federated_computation(sum_type, sum_type)
        def merge(total, partial):  # type: ignore[no-untyped-def]
            return tff.federated_map(form.merge, (total, partial))

        @tff.federated_computation(state_type, sum_type)
        def after_merge(state, total):  # type: ignore[no-untyped-def]
            result = tff.federated_map(update, (state, total))
            return result[0], tff.federated_map(form.prepare, result[0]), result[1]

        @tff.federated_computation(state_type)
        def get_weights(state):  # type: ignore[no-untyped-def]
            return tff.federated_map(weights, state)

        compile_to_native = tff.backends.native.desugar_and_transform_to_native
        self.start = compile_to_native(start)
        self.up_to_merge = compile_to_native(up_to_merge)
        self.merge = compile_to_native(merge)
        self.after_merge = compile_to_native(after_merge)
        self.get_weights = compile_to_native(get_weights)


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
