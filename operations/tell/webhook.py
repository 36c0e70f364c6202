"""A message to a chat: the JSON object ``{"text": ...}``, which Slack, Mattermost, Rocket.Chat and Google Chat take.

The address is a secret, since whoever has it may write there: it comes from the environment and is never shown.
"""

import json
import os
import urllib.error
import urllib.request

ADDRESS = "FEDPIPE_WEBHOOK"
_SECONDS = 10.0
_LONGEST = 3_500  # Google Chat takes 4,096 characters, Slack 40,000


def address() -> str | None:
    """The address of the webhook; None if there is none."""
    return os.environ.get(ADDRESS, "").strip() or None


def send(text: str) -> str | None:
    """Sends ``text`` to `address`.

    Returns:
      Why it did not arrive, without the address; None if it did.
    """
    target = address() or ""
    if not target.startswith(("https://", "http://")):
        return f"{ADDRESS} should be an address that begins with https://"
    message = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    content = json.dumps({"text": message}).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "fedpipe"}
    try:
        request = urllib.request.Request(target, content, headers)
        with urllib.request.urlopen(request, timeout=_SECONDS):
            return None
    except urllib.error.HTTPError as error:
        return f"the chat answered {error.code} {error.reason}"
    except (OSError, ValueError) as error:  # ValueError: no address, in words that hold it
        reason = error.reason if isinstance(error, urllib.error.URLError) else type(error).__name__
        return f"it cannot be reached ({reason})"
