"""Stage partition: data/raw/ -> data/clients/, one shard a client, with tables and a picture."""
