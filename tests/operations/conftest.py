"""The TFF worker of the tests of fedpipe, for tests of operations too."""

from tests.fedpipe.conftest import worker  # noqa: F401
