"""From a scheme to client shards: skew, held-out samples, figures and pictures."""
