"""fedpipe's pipeline: one folder a stage, data walking through in one direction."""
