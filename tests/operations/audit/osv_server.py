"""An OSV server on loopback that knows the advisories it is given, for tests of an audit."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from operations.audit.advisories import Advisory


def record(advisory: Advisory) -> dict[str, Any]:
    """The advisory in OSV's format."""
    events = [{"introduced": "0"}, *([] if advisory.fixed == "none" else [{"fixed": advisory.fixed}])]
    affected = {
        "package": {"name": advisory.package, "ecosystem": "PyPI"},
        "ranges": [{"type": "ECOSYSTEM", "events": events}],
    }
    return {
        "schema_version": "1.7.3",
        "id": advisory.id,
        "aliases": advisory.aliases,
        "summary": advisory.summary,
        "published": "2026-01-01T00:00:00Z",
        "affected": [affected],
    }


@contextmanager
def osv_server(known: Sequence[Advisory]) -> Iterator[str]:
    """Serves the advisories; gives the address for queries."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            records = [record(each) for each in known if each.package == query["package"]["name"]]
            content = json.dumps({"vulns": records} if records else {}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
    finally:
        server.shutdown()
        server.server_close()
