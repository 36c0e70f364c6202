"""TCP ports of the commands that listen: ui, serve and server."""

import socket

from fedpipe.errors import PipelineError

LOOPBACK = "127.0.0.1"
# Different, so that all three run on one machine without an option.
SERVER_PORT = 5000  # other people's MLFLOW_TRACKING_URI names it
SERVE_PORT = 5001
UI_PORT = 5002


def port_number(text: str) -> int:
    """A TCP port, for argparse, which turns the ValueError into a sentence.

    Raises:
      ValueError: The text is not a number from 1 to 65535.
    """
    port = int(text)
    if not 1 <= port <= 65535:
        raise ValueError
    return port


def require_free(host: str, port: int) -> None:
    """Checks that a server can listen on this address.

    Raises:
      PipelineError: It cannot; the message says why and names the option --port.
    """
    with socket.socket() as probe:
        # As the servers do. Without it, the port of a server that has just ended would count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PipelineError(
                f"cannot listen on {host}:{port} ({error.strerror or error}): choose another port with --port"
            ) from None
