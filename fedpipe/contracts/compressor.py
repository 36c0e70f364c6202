"""The contract of fedpipe/compressors: a smaller update."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedpipe.config.train import Train
from fedpipe.contracts.choice import ContractError, TrainChoice, function
from fedpipe.contracts.registry import Registry

if TYPE_CHECKING:
    from fedpipe.learning.interface import Client, Tensors
    from fedpipe.learning.task import Task


@dataclass(frozen=True, kw_only=True)
class Compressor(TrainChoice):
    """A file of ``fedpipe/compressors``."""

    compress: Callable[[Task, Tensors, Client, Tensors], tuple[Tensors, Tensors, Any]] | None = function(
        "task, update, client, residual",
        "The update as the server decodes it, the client's next residual, and the bytes that are sent, int64 (a "
        "constant, if it can be: simulated time needs it before). None sends the update as it is.",
    )
    client_init: Callable[[Task, Tensors], Tensors] | None = function(
        "task, zeros", "The residual before a client's first round; `zeros` has the shapes of an update.", None
    )

    def check_names(self) -> None:
        """Checks which names go together; errors as of `Choice.check_names`."""
        if self.client_init is not None and self.compress is None:
            raise ContractError("defines 'client_init' without 'compress'")

    @property
    def keeps_files(self) -> bool:
        """Whether each client keeps a file from round to round."""
        return self.client_init is not None


COMPRESSORS = Registry(Train.CHOICES["compressor"], Compressor)
