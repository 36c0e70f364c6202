"""A message to a chat, over HTTP; what goes wrong is a warning without the address, which is a secret."""

import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from layout import PARAMS
from operations.tell import webhook
from tests.operations.tell.test_tell import EVIL, tell


class Chat(http.server.BaseHTTPRequestHandler):
    code = 200
    messages: list[str] = []  # noqa: RUF012

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.messages.append(json.loads(content)["text"])
        self.send_response(self.code)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Chat]]:
    Chat.messages, Chat.code = [], 200
    server = http.server.HTTPServer(("127.0.0.1", 0), Chat)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("FEDPIPE_WEBHOOK", f"http://127.0.0.1:{server.server_port}/secret-token")
    yield Chat
    server.shutdown()


def test_what_the_params_name_is_sent_and_nothing_else(project: Path, chat: type[Chat]) -> None:
    tell(48, held={EVIL: EVIL}, pull_request="https://github.example/pull/1")
    tell(49, "nothing_new")
    (message,) = chat.messages
    assert message.startswith("Retraining of main, 2026-W48: proposed, accuracy 0.7800 -\u203a 0.7900\n")
    assert "https://github.example/pull/1" in message and "@octocat" not in message and "<" not in message
    PARAMS.write_text(re.sub(r"webhook_on:.*\n( +- .*\n)+", "webhook_on: []\n", PARAMS.read_text()))
    tell(50, "failed")
    assert len(chat.messages) == 1


def test_a_failure_is_a_warning_without_the_address(
    project: Path, chat: type[Chat], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chat.code = 500
    tell(48, "failed")
    for address in ("http://127.0.0.1:1/secret-token", "secret-token", "https://[secret-token"):
        monkeypatch.setenv("FEDPIPE_WEBHOOK", address)
        tell(48, "failed")
    output = capsys.readouterr().err
    assert output.count("tell: warning: no message to the chat: ") == 4 and "the chat answered 500" in output
    assert "secret-token" not in output


def test_without_an_address_nothing_is_sent(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "send", pytest.fail)
    tell(48, "failed")
