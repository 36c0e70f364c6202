"""What sets clients apart besides the samples that they have: how their images look, and what their labels mean."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fedpipe.config import Partition
from fedpipe.datasets.shards import Transform
from fedpipe.errors import PipelineError
from fedpipe.partitioning import concept_skew, feature_skew
from fedpipe.partitioning.feature_skew import Look
from fedpipe.samples.kind import Kind
from fedpipe.seeds import Purpose, generator


def require_skew_fits(params: Partition, kind: Kind) -> None:
    """Raises PipelineError if feature or concept skew is requested for samples that cannot have it."""
    if feature_skew.is_on(params.features) and not kind.is_image:
        raise PipelineError(
            f"params.yaml: 'partition.features' changes how images look, and the data set has {kind}: set all of it "
            "to 0.0"
        )
    if params.concept.share and kind.label_kind == "numbers":
        raise PipelineError(
            f"params.yaml: 'partition.concept.share' is {params.concept.share}, which permutes classes, and the data "
            "set has labels that are numbers: set it to 0.0"
        )


@dataclass(frozen=True)
class Skew:
    """Feature and concept skew of all clients."""

    seed: int
    looks: list[Look]  # one a client; none where there is no feature skew
    permutations: dict[int, np.ndarray]  # client to the label [classes] that it uses for each true label

    @staticmethod
    def sample(params: Partition, classes: int) -> "Skew":
        """The skew that ``params`` ask for: the same for the same seed, number of clients and classes."""
        features = params.features
        looks = feature_skew.looks(features, params.clients, params.seed) if feature_skew.is_on(features) else []
        permutations = concept_skew.permutations(params.concept.share, params.clients, classes, params.seed)
        return Skew(params.seed, looks, permutations)

    def __bool__(self) -> bool:
        return bool(self.looks or self.permutations)

    def transform(self, noise: Purpose) -> Transform | None:
        """What becomes of a client's images and labels on their way into a shard; None where nothing does.

        Args:
          noise: The stream of the noise: a client's training and test images have different noise.
        """
        if not self:
            return None

        def skewed(client: int, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            if self.looks:
                look = self.looks[client]
                # A generator takes longer to make than a small client's images to change.
                rng = generator(self.seed, noise, client=client) if look.noise else None
                images = feature_skew.apply(look, images, rng)
            if client in self.permutations:
                labels = self.permutations[client][labels]
            return images, labels

        return skewed

    def table(self, clients: int) -> pd.DataFrame:
        """One row a client: client, rotation, contrast, background, noise, permutation.

        ``permutation`` is the client's labels for the true labels 0, 1, 2, ..., with spaces between; empty where
        the labels are the true ones.
        """
        table = pd.DataFrame(self.looks or [Look()] * clients)
        table["permutation"] = [" ".join(map(str, self.permutations.get(client, ()))) for client in range(clients)]
        return table.rename_axis("client").reset_index()
