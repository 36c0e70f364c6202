"""Texts that clients wrote, made harmless for GitHub and for chats: no mentions, links, pictures or markup."""

import unicodedata

_LONGEST = 300
# Chats read <!channel>, <@user> and <address|text> even in code; @channel is a mention wherever it stands.
_IN_CHATS = str.maketrans({"<": "\u2039", ">": "\u203a", "@": "@\u200b"})


def code(text: str) -> str:
    """``text`` in backticks, on one line, cut where it is long: GitHub shows it as it is."""
    line = " ".join(text.encode(errors="backslashreplace").decode().split()).replace("`", "'")
    # Signs that turn the direction of writing, or show nothing, would change how the rest reads.
    line = "".join(sign for sign in line if unicodedata.category(sign) not in ("Cc", "Cf")) or "?"
    return f"`{line[:_LONGEST] + '…' if len(line) > _LONGEST else line}`"


def for_chat(markdown: str) -> str:
    """A text made with `code`, so that no chat takes anything in it for a mention or a link with another text."""
    return markdown.translate(_IN_CHATS)


def figures(accuracy: float | None, champion: float | None) -> str:
    """``accuracy 0.7800 -> 0.7900``, from the champion's to the model's; empty where it was not measured."""
    if accuracy is None:
        return ""
    return f"accuracy {accuracy:.4f}" if champion is None else f"accuracy {champion:.4f} -> {accuracy:.4f}"
