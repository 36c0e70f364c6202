"""Command promote: challenger against champion on the same data -> who is champion, and why."""
