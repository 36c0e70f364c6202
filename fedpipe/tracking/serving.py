"""The trained model as MLflow serves it: samples in, class probabilities float32 [n, classes] or numbers out.

Samples are uint8 images [n, h, w, c], other arrays, or the rows of a table with the columns that the model knows.

MLflow copies this file into the model and runs it when the model is loaded (models from code), on a machine that
need not have this project; mlflow_store.py says which of our modules go with it.
"""

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext


class Classifier(PythonModel):
    """Loads the weights once, and TensorFlow only then: logging the model needs neither."""

    def load_context(self, context: PythonModelContext) -> None:
        """Reads the weights that MLflow put beside the model."""
        from fedpipe import pinning

        pinning.pin()  # before TensorFlow loads
        from fedpipe.networks.weights import load_weights

        model, weights = load_weights(Path(context.artifacts["weights"]))
        self._kind, self._predictions = model.spec.kind, model.predictor(weights)

    def predict(
        self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> np.ndarray:
        """Class probabilities float32 [n, classes], or numbers, of samples; MLflow checked their types by then.

        Rows of a table come as a DataFrame. (MLflow takes other hints than an array's for a schema of its own.)
        """
        from fedpipe.samples.inputs import samples_of

        return self._predictions(samples_of(self._kind, model_input, "the request"))


set_model(Classifier())
