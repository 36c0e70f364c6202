"""Reports a retraining's result to people: a tracking issue, pull requests, pictures, webhooks; docs/telling.md."""
