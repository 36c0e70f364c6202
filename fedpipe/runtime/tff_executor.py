"""Values and computations on a TFF worker, and a pass of a training as computations that run there."""

from collections.abc import Callable, Coroutine, Sequence
from functools import cached_property
from typing import Any

import grpc
import numpy as np

from fedpipe.errors import PipelineError
from fedpipe.lazy import tff
from fedpipe.learning.passes import Pass
from fedpipe.runtime.worker import Worker

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


class Compiled:
    """A pass as computations that take and give values at the server, so that only measurements leave the worker."""

    def __init__(self, source: Pass) -> None:
        self.message_type, self.sum_type = source.prepare.type_signature.result, source.zero.type_signature.result
        self.groups_type = tff.FederatedType(source.group_type, tff.CLIENTS)
        identity = tff.tensorflow.computation(lambda total: total, self.sum_type)

        @tff.federated_computation(tff.FederatedType(self.message_type, tff.SERVER), self.groups_type)
        def work(message, groups):  # type: ignore[no-untyped-def]
            sums = tff.federated_map(source.work, (tff.federated_broadcast(message), groups))
            return tff.federated_aggregate(sums, source.zero(), source.merge, source.merge, identity)

        self.work = _native(work)
        self.prepare, self.update = at_server(source.prepare), at_server(source.update)
        self._source = source

    # Not every training needs these.

    @cached_property
    def zero(self) -> tff.Computation:
        """What nobody sent."""
        return at_server(self._source.zero)

    @cached_property
    def merge(self) -> tff.Computation:
        """The sum of two chunks."""
        return at_server(self._source.merge)

    @cached_property
    def work_alone(self) -> tff.Computation:
        """What ``work`` does with each group, for a single one: (message, group) -> its sum, all at the server."""
        group_type = self._source.group_type

        @tff.federated_computation(
            tff.FederatedType(self.message_type, tff.SERVER), tff.FederatedType(group_type, tff.SERVER)
        )
        def alone(message, group):  # type: ignore[no-untyped-def]
            return tff.federated_map(self._source.work, (message, group))

        return _native(alone)


def at_server(function: tff.Computation) -> tff.Computation:
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


def fitting(leaves: Sequence[np.ndarray], kind: tff.Type, what: str) -> Sequence[np.ndarray]:
    """``leaves``, if they have the shapes and types of ``kind``, a flat tuple of tensors.

    Raises:
      PipelineError: They do not; ``what`` names them.
    """
    wanted = list(kind)
    if len(leaves) != len(wanted) or not all(map(_fits, leaves, wanted)):
        arrays = ", ".join(f"{leaf.dtype} {list(leaf.shape)}" for leaf in leaves[:4])
        raise PipelineError(f"{what} of {len(leaves)} arrays ({arrays}, ...) does not fit this training's {kind}")
    return leaves


def _fits(leaf: np.ndarray, kind: tff.TensorType) -> bool:
    """Whether an array has the type and the shape of a tensor, whose unknown lengths may be any."""
    if leaf.dtype != kind.dtype or kind.shape is None:
        return bool(leaf.dtype == kind.dtype)
    return leaf.ndim == len(kind.shape) and all(
        length is None or length == own for length, own in zip(kind.shape, leaf.shape, strict=True)
    )


def completed(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine of TFF's remote executor.

    Its calls to the worker block, so it never suspends and needs no event loop: it runs in a thread that has none, in a
    notebook whose loop is running, and Ctrl-C interrupts it at once.

    Raises:
      RuntimeError: It suspended.
    """
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    finally:
        coroutine.close()
    raise RuntimeError(f"{coroutine} waits for an event loop")


class Executor:
    """Values on the worker, for one number of clients; every error of the worker comes out as a PipelineError."""

    def __init__(self, worker: Worker, cardinality: int) -> None:
        self._worker = worker
        channel = grpc.insecure_channel(worker.address, _CHANNEL_OPTIONS)
        stub = tff.framework.RemoteExecutorGrpcStub(channel)
        self._remote = tff.framework.RemoteExecutor(stub, dispose_batch_size=1)
        self._guard(lambda: self._remote.set_cardinalities({tff.CLIENTS: cardinality}))
        self._computations: dict[int, tuple[Any, Any]] = {}  # a computation by its id, which must stay its own

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
            self._computations[key] = computation, self.value(computation, computation.type_signature)
        _, sent = self._computations[key]
        return self._run(self._remote.create_call(sent, argument))

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
        return self._guard(lambda: completed(coroutine))

    def _guard(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except (grpc.RpcError, tff.framework.RetryableError) as error:
            lost = isinstance(error, tff.framework.RetryableError)  # no connection: it may be just ending
            self._worker.check_alive(grace=2.0 if lost else 0.0)
            details = error.details() if isinstance(error, grpc.Call) else str(error)
            first = str(details).strip().splitlines()[0] if details else type(error).__name__
            raise PipelineError(f"a client failed on the TFF worker: {first}") from error


class Executors:
    """The executors of one worker, by the number of groups that they take at once."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._made: dict[int, Executor] = {}

    def of(self, cardinality: int) -> Executor:
        """The executor for ``cardinality`` groups."""
        if cardinality not in self._made:
            self._made[cardinality] = Executor(self._worker, cardinality)
        return self._made[cardinality]

    def close(self) -> None:
        """Forgets every value."""
        for executor in self._made.values():
            executor.close()
