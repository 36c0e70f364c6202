"""``python -m operations.tell.registry_webhook``: the tracking server calls an address when the registry changes.

    create NAME     makes the webhook NAME of the address in FEDPIPE_REGISTRY_WEBHOOK, or changes the one of that name
    list            shows the server's webhooks
    test NAME       sends an example
    delete NAME     removes it

MLflow signs each message with FEDPIPE_REGISTRY_WEBHOOK_SECRET, if that is set (header X-MLflow-Signature), and sends a
JSON object with entity, action and data: what a deployment needs, not a chat. Only a server (`make server`) sends
anything, and only to https:// addresses of the public network, unless its environment allows more (docs/telling.md).
"""

import argparse
import os
import sys
from typing import TYPE_CHECKING

from fedpipe.errors import PipelineError, run_stage
from fedpipe.tracking.connection import connect, translated
from fedpipe.tracking.outbox import STORE, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.webhook import Webhook

ADDRESS, SECRET = "FEDPIPE_REGISTRY_WEBHOOK", "FEDPIPE_REGISTRY_WEBHOOK_SECRET"
# A version is registered; a version becomes champion or challenger; a decision is written on it.
EVENTS = ("model_version.created", "model_version_alias.created", "model_version_tag.set")


def main() -> None:
    """Asks the server that MLFLOW_TRACKING_URI names.

    Raises:
      PipelineError: There is no server, webhook or address, or the server refuses.
    """
    parser = argparse.ArgumentParser(
        prog="python -m operations.tell.registry_webhook",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("verb", choices=("create", "list", "test", "delete"))
    parser.add_argument("name", nargs="?", default="fedpipe", help="the webhook's name, fedpipe if not given")
    parser.add_argument("--events", nargs="+", default=EVENTS, metavar="EVENT", help=f"by default {' '.join(EVENTS)}")
    options = parser.parse_args()
    client = _client()
    with translated():
        if options.verb == "list":
            for each in client.list_webhooks():
                _show(each)
        elif options.verb == "create":
            _show(_create(client, options.name, list(options.events)))
        elif options.verb == "test":
            _test(client, _require(client, options.name))
        else:
            client.delete_webhook(_require(client, options.name).webhook_id)
            _say(f"{options.name} is deleted")


def _client() -> "MlflowClient":
    address = os.environ.get(STORE, "")
    if not address.startswith(("http://", "https://")):
        raise PipelineError(
            f"{STORE} names no tracking server, and only a server calls webhooks: start one with `make server`, "
            f"and set {STORE} to its address"
        )
    return connect(address)


def _create(client: "MlflowClient", name: str, events: list[str]) -> "Webhook":
    target = os.environ.get(ADDRESS, "").strip()
    if not target:
        raise PipelineError(f"{ADDRESS} is not set: it should be the address that the server is to call")
    from mlflow.entities.webhook import WebhookEvent

    secret, kinds = os.environ.get(SECRET) or None, [WebhookEvent.from_str(event) for event in events]
    if present := _find(client, name):
        return client.update_webhook(present.webhook_id, url=target, events=kinds, secret=secret)
    return client.create_webhook(name, target, kinds, "made by operations.tell.registry_webhook", secret)


def _test(client: "MlflowClient", webhook: "Webhook") -> None:
    result = client.test_webhook(webhook.webhook_id)
    if not result.success:
        reason = result.error_message or f"the answer was {result.response_status}"
        raise PipelineError(f"the server could not deliver an example: {without_password(reason)}")
    _say(f"{webhook.name} took an example ({result.response_status})")


def _find(client: "MlflowClient", name: str) -> "Webhook | None":
    return next((each for each in client.list_webhooks() if each.name == name), None)


def _require(client: "MlflowClient", name: str) -> "Webhook":
    if webhook := _find(client, name):
        return webhook
    names = ", ".join(each.name for each in client.list_webhooks()) or "none"
    raise PipelineError(f"the server has no webhook '{name}'; it has {names}")


def _show(webhook: "Webhook") -> None:
    """Name, state and events; the address may be a secret, and is left out."""
    print(f"{webhook.name}: {webhook.status}, {', '.join(map(str, webhook.events))}")


def _say(line: str) -> None:
    print(f"webhook: {line}", file=sys.stderr)


if __name__ == "__main__":
    run_stage(main)
