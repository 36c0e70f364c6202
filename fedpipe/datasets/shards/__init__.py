"""The shards: the one place that writes the clients' data and reads it.

    manifest.json         the shards' contents, for everything downstream (manifest.py)
    shards.csv            client, samples, SHA-256 of its shard (the bytes of its images, then of its labels)
    shards.safetensors    images uint8 [samples, height, width, channels] and labels uint8 [samples], sorted by
                          client; offsets int64 [clients + 1]: client k has images[offsets[k] : offsets[k + 1]]

One file for all clients, because DVC, disks and remotes pay for every file (docs/how-it-works.md has the figures); a
plain safetensors file, so any tool opens it. A client's shard is a range of its bytes, and that range is all that
reading the shard reads (reading.py).
"""

from fedpipe.datasets.shards.at_sites import SiteShards, write_at_sites
from fedpipe.datasets.shards.index import open_shards, read_index, verify_shards
from fedpipe.datasets.shards.manifest import Manifest, Site, read_held_out
from fedpipe.datasets.shards.reading import Labelled, Shards, read_shard, read_shard_in_graph, shards_path
from fedpipe.datasets.shards.writing import Transform, write_shards

__all__ = [
    "Labelled",
    "Manifest",
    "Shards",
    "Site",
    "SiteShards",
    "Transform",
    "open_shards",
    "read_held_out",
    "read_index",
    "read_shard",
    "read_shard_in_graph",
    "shards_path",
    "verify_shards",
    "write_at_sites",
    "write_shards",
]
