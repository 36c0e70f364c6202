"""Training over sites that keep their samples (docs/federation.md): both sides, free of any transport."""
