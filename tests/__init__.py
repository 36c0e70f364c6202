"""Tests mirror stages/. Importing this package pins NumPy's and TensorFlow's kernels before either loads."""

from pathlib import Path

import stages

ROOT = Path(stages.__file__).resolve().parent.parent
RECIPE = ROOT / "tests/recipe"  # frozen params: a team's own params.yaml, batches and results break no test
