"""A client sends its update as float32.

A compressor has

    compress(task, update, client, residual) -> (update, residual, bytes)

with the update as the server decodes it, what the client keeps for its next round, and the bytes that are sent, an
int64 scalar. One that keeps something has ``client_init(task, zeros)``, the first residual, where ``zeros`` has the
shapes of an update. Draw from ``task.compression_seed(client)``.
"""
