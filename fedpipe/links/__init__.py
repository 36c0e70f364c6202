"""How questions come to sites and answers back: gRPC, over streams that sites open (docs/federation.md)."""
