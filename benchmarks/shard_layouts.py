"""Why the shards lie as they do: ways to store clients' shards, and ways for a TensorFlow graph to read one of them.

Stores the same random shards (of six MNIST images each) in several layouts and takes the CPU seconds of writing them
and of DVC's add, status and push to a folder; then reads shards (of a hundred images) by several TensorFlow ops. It
counts CPU seconds, which are steadier than those on the wall but leave out waiting for the disk, and stores them in
benchmarks/results.json.

python -m benchmarks.shard_layouts [--clients N]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.partition_scale import watch
from benchmarks.results import store
from fedpipe import provenance

STORED_BYTES = 6 * 785
READ_CLIENTS, READ_BYTES = 600, 100 * 785

# Client to file, by name.
LAYOUTS: dict[str, Callable[[int], str]] = {
    "one file per client": lambda client: f"{client:06d}",
    "one file per client, 1,000 per folder": lambda client: f"{client // 1000:03d}/{client:06d}",
    "a file for 100 clients": lambda client: f"{client // 100:04d}",
    "one file": lambda _: "all",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=10_000)
    clients = parser.parse_args().clients
    machine = provenance.collect() | {"cores": len(os.sched_getaffinity(0))}
    stored, read = storing(clients), reading()
    store(shard_layouts={"machine": machine, "clients": clients, "storing_cpu_seconds": stored, "reading_cpu_ms": read})


def storing(clients: int) -> dict[str, dict[str, float]]:
    """CPU seconds of writing each layout and of DVC's commands on it."""
    shards = np.random.default_rng(0).integers(0, 256, (clients, STORED_BYTES), np.uint8)
    times = {}
    for name, file_of in LAYOUTS.items():
        with tempfile.TemporaryDirectory(prefix="fedpipe-bench-") as folder:
            project = Path(folder)
            begin = time.process_time()
            _write(project / "shards", shards, file_of)
            seconds = {"write": time.process_time() - begin}
            dvc = [sys.executable, "-m", "dvc"]
            subprocess.run([*dvc, "init", "-q", "--no-scm"], cwd=project, check=True)
            subprocess.run([*dvc, "remote", "add", "-q", "-d", "beside", project / "remote"], cwd=project, check=True)
            for command in (["add", "shards"], ["status", "shards.dvc"], ["push", "shards.dvc"]):
                seconds[command[0]] = watch([*dvc, *command], project)["cpu_seconds"]
        times[name] = seconds
        print(f"{name:34}" + "".join(f" {command} {took:6.2f} s" for command, took in seconds.items()), flush=True)
    return times


def _write(folder: Path, shards: np.ndarray, file_of: Callable[[int], str]) -> None:
    for client, shard in enumerate(shards):
        path = folder / file_of(client)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(shard)


def reading() -> dict[str, float]:
    """CPU milliseconds a shard of each op that gives a graph the bytes of one client."""
    import tensorflow as tf

    # Or the mapped file would be copied into the graph as a constant; TFF's worker does not do so (tests/train).
    tf.config.optimizer.set_experimental_options({"constant_folding": False})
    shards = np.random.default_rng(0).integers(0, 256, (READ_CLIENTS, READ_BYTES), np.uint8)
    times = {}
    with tempfile.TemporaryDirectory(prefix="fedpipe-bench-") as name:
        folder = Path(name)
        _write(folder / "each", shards, LAYOUTS["one file per client"])
        _write(folder, shards, LAYOUTS["one file"])
        with tf.io.TFRecordWriter(str(folder / "records")) as writer:
            for shard in shards:
                writer.write(shard.tobytes())
        for how, read in _readers(folder).items():
            function = tf.function(read, input_signature=[tf.TensorSpec([], tf.int64)])
            for client in (0, READ_CLIENTS - 1):  # and warm up
                np.testing.assert_array_equal(function(tf.constant(client, tf.int64)), shards[client])
            begin = time.process_time()
            for client in range(READ_CLIENTS):
                function(tf.constant(client, tf.int64))
            times[how] = (time.process_time() - begin) / READ_CLIENTS * 1000
            print(f"{how:44} {times[how]:6.3f} ms", flush=True)
    return times


def _readers(folder: Path) -> dict[str, Callable[[Any], Any]]:
    """Functions from a client to its bytes, as a uint8 tensor."""
    import tensorflow as tf

    nothing, single = tf.constant(0, tf.int64), tf.constant(1, tf.int64)

    def whole_file(client: Any) -> Any:
        path = tf.strings.join([f"{folder}/each/", tf.strings.as_string(client, width=6, fill="0")])
        return tf.io.decode_raw(tf.io.read_file(path), tf.uint8)

    def record_at_offset(client: Any) -> Any:
        framing = 16  # bytes that the TFRecord format adds to a record
        records = tf.raw_ops.TFRecordDatasetV2(
            filenames=[f"{folder}/records"],
            compression_type="",
            buffer_size=nothing,
            byte_offsets=[client * (READ_BYTES + framing)],
        )
        return first_of(records)

    def fixed_length_records(client: Any) -> Any:
        records = tf.raw_ops.FixedLengthRecordDatasetV2(
            filenames=[f"{folder}/all"],
            header_bytes=client * READ_BYTES,
            record_bytes=tf.constant(READ_BYTES, tf.int64),
            footer_bytes=nothing,
            buffer_size=tf.constant(2**16, tf.int64),
            compression_type="",
        )
        return first_of(records)

    def first_of(records: Any) -> Any:
        kinds: dict[str, Any] = {"output_types": [tf.string], "output_shapes": [[]]}
        first = tf.raw_ops.TakeDataset(input_dataset=records, count=single, **kinds)
        return tf.io.decode_raw(tf.raw_ops.DatasetToSingleElement(dataset=first, **kinds)[0], tf.uint8)

    def mapped(client: Any) -> Any:
        file = tf.raw_ops.ImmutableConst(
            dtype=tf.uint8, shape=[READ_CLIENTS * READ_BYTES], memory_region_name=f"{folder}/all"
        )
        # Plus 0: an op that reads the bytes, as all others do.
        return file[client * READ_BYTES : (client + 1) * READ_BYTES] + tf.constant(0, tf.uint8)

    return {
        "one file per client, read whole": whole_file,
        "one file, mapped into memory": mapped,
        "one file of TFRecords, read at an offset": record_at_offset,
        "one file, read through up to the client": fixed_length_records,
    }


if __name__ == "__main__":
    main()
