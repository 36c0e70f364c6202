"""Initial weights, sampled from this project's own generator."""

import numpy as np


def glorot_uniform(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """A kernel float32 ``shape`` [..., inputs, outputs], drawn from U(-limit, limit); a vector counts as square.

    limit = sqrt(6 / (fan in + fan out)), each fan being inputs or outputs times the sides before them.

    Source: Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks",
    equation 16.
    """
    inputs, outputs = shape[-2:] if len(shape) > 1 else (shape[0], shape[0])
    receptive_field = int(np.prod(shape[:-2]))
    limit = np.sqrt(6 / (receptive_field * (inputs + outputs)))
    return rng.uniform(-limit, limit, shape).astype(np.float32)
