"""Telling people what came of a retraining: a tracking issue, pull requests, pictures, webhooks; docs/telling.md."""
