"""The scoring application in this process: every answer is a prediction or a sentence, whatever a client sends."""

import asyncio
import json
import shutil
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import example, given, strategies

from operations.serve.scoring_app import BadRequest, application, read_images
from tests.fedpipe.tracking.mlflow_project import fill

SHAPE = (3, 2, 1)
GOOD = [[[1], [2]], [[3], [4]], [[0], [255]]]
VERSION = {"model": "fedpipe-mnist", "version": 12, "commit": "0a1b2c", "weights_sha256": "ab", "mlflow": "3"}
LIMIT = 100_000


def body(images: object, key: str = "inputs") -> bytes:
    return json.dumps({key: images}).encode()


def refusal(sent: bytes) -> str:
    with pytest.raises(BadRequest) as refused:
        read_images(sent, SHAPE)
    return str(refused.value)


def test_images_arrive_as_they_are() -> None:
    two = [GOOD, [[[9], [8]]] * 3]
    for sent in (body(two), body(two, "instances"), json.dumps({"inputs": two}, indent=3).encode("utf-8-sig")):
        images = read_images(sent, SHAPE)
        assert images.dtype == np.uint8 and np.array_equal(images, two)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (body([]), "the request has no list of images"),
        (body(GOOD[0]), "image 0 is 1; the model takes images of 3 x 2 x 1 (height x width x channels)"),
        (body([[]]), "image 0 is 0; the model takes"),
        (body([GOOD, 7]), "image 1 is no list; the model takes images of 3 x 2 x 1"),
        (body([[[[1], [[2]]]] * 3]), "image 0 is not nested lists of one size"),
        (body([[[[1], [2]], [[3]], [[5], [6]]]]), "image 0 is not nested lists of one size; the model takes"),
        (body([[[[1, 2], [2, 3]]] * 3]), "image 0 is 3 x 2 x 2; the model takes"),
        (body([[[[[1]], [[2]]]] * 3]), "image 0 is 3 x 2 x 1 x 1; the model takes images of 3 x 2 x 1"),
        (body({"a": GOOD}), 'the value of "inputs" is no list of images'),
        (b"[[1]]", 'the request is no object with the key "inputs"'),
        (b"7", 'the request is no object with the key "inputs"'),
        (b"{}", "the request has no list of images"),
        (b'{"dataframe_split": {"data": [[0.5]]}}', "the request has no list of images"),
        (b'{"inputs": [], "inputs": []}', 'the request has more keys than "inputs"'),
        (b"{", "the request is not JSON"),
        (b"", "the request is not JSON"),
        (b"\xff", "the request is not UTF-8"),
        (body([GOOD])[:-1], "the request is not JSON"),
        (body([GOOD]) + b"x", "the request is not JSON"),
        (body([GOOD])[:-2] + b",]}", "the request is not JSON"),
        (b'{"inputs": [' + b"1" * 5000 + b"]}", "the request is not JSON (Exceeds the limit (4300"),
        (b'{"inputs": ' + b"[" * 40_000, "the request is nested too deeply"),
        (b'{"a": ' * 40_000, "the request has no list of images"),
        (b'{"inputs": [' + b'{"a": ' * 40_000, "the request is nested too deeply"),
    ],
)  # fmt: skip
def test_anything_else_is_a_sentence(sent: bytes, reason: str) -> None:
    assert reason in refusal(sent)


@pytest.mark.parametrize("pixel", ["0.5", "256", "-1", "1.0", "true", "null", '"7"', "NaN", "Infinity", "1e400", "{}"])
def test_only_whole_pixels_pass(pixel: str) -> None:
    sent = body([GOOD, GOOD]).decode()
    wrong = sent[::-1].replace("552", pixel[::-1], 1)[::-1]  # of the last image
    shown = "Infinity" if pixel == "1e400" else pixel
    assert f"image 1 has the pixel {shown}; pixels must be integers from 0 to 255" in refusal(wrong.encode())


def expected(sent: bytes) -> list | None:
    """The images of a request, by a parser that reads it in one piece; None where it is to be refused."""
    try:
        (key,), (images,) = zip(*json.loads(sent, object_pairs_hook=lambda pairs: pairs), strict=True)
        pixels = np.array(images, dtype=object)
    except (ValueError, TypeError):
        return None
    whole = all(type(pixel) is int and 0 <= pixel <= 255 for pixel in pixels.ravel())
    is_named = key in ("inputs", "instances") and isinstance(images, list)
    return images if is_named and pixels.shape == (len(images), *SHAPE) and len(images) and whole else None


def lists(inner: strategies.SearchStrategy, size: int) -> strategies.SearchStrategy:
    return strategies.lists(inner, min_size=size, max_size=size)


pixels = strategies.integers(0, 255)
good_images = lists(lists(lists(pixels, 1), 2), 3)
anything = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats() | strategies.text(),
    lambda inner: strategies.lists(inner, max_size=3) | strategies.dictionaries(strategies.text(), inner, max_size=2),
    max_leaves=5,
)
nearly = lists(lists(lists(pixels | anything, 1), 2), 3) | anything
few = hypothesis.settings(max_examples=40)
requests = strategies.dictionaries(
    strategies.sampled_from(["inputs", "instances", "params"]), strategies.lists(good_images | nearly, max_size=2)
)


@few
@given(requests | anything, strategies.sampled_from([None, 1]))
@example({"inputs": [GOOD]}, None)
def test_it_takes_what_a_parser_of_the_whole_would_take(sent: object, indent: int | None) -> None:
    text = json.dumps(sent, indent=indent).encode()
    images = expected(text)
    if images is None:
        refusal(text)
    else:
        assert np.array_equal(read_images(text, SHAPE), images)


@given(strategies.data())
def test_damaged_bodies_are_refused_or_read(data: strategies.DataObject) -> None:
    sent = bytearray(body([GOOD, GOOD]))
    for _ in range(data.draw(strategies.integers(1, 3))):
        at = data.draw(strategies.integers(0, len(sent) - 1))
        sent[at : at + data.draw(strategies.integers(0, 3))] = data.draw(strategies.binary(max_size=3))
    images = expected(bytes(sent)) if is_utf8(sent) else None
    if images is None:
        refusal(bytes(sent))
    else:
        assert np.array_equal(read_images(bytes(sent), SHAPE), images)


def is_utf8(sent: bytes) -> bool:
    try:
        return bool(sent.decode())
    except UnicodeDecodeError:
        return False


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> str:
        return json.loads(self.body)["message"]


class Client:
    """Speaks to an application as a server would."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def get(self, path: str) -> Answer:
        return asyncio.run(self.ask("GET", path, [b""], {}))

    def post(self, *parts: bytes, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return asyncio.run(self.ask("POST", "/invocations", parts, {"content-type": "application/json"} | named))

    async def ask(self, method: str, path: str, parts: Iterable[bytes], headers: dict[str, str]) -> Answer:
        coming: Iterator[bytes] = iter(parts)
        self.taken = 0
        sent: list[dict] = []

        async def receive() -> dict:
            part = next(coming, None)
            self.taken += part is not None
            return {"type": "http.request", "body": part or b"", "more_body": part is not None}

        async def send(message: dict) -> None:
            sent.append(message)

        scope = {"type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode()}
        scope |= {"query_string": b"", "root_path": "", "scheme": "http", "client": ("127.0.0.1", 1), "server": None}
        scope["headers"] = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self._app(scope, receive, send)
        named = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], named, b"".join(message.get("body", b"") for message in sent[1:]))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A real model of MLflow, of 28 x 28 x 1."""
    from fedpipe.tracking.connection import configure
    from fedpipe.tracking.mlflow_store import save_model

    configure()
    from mlflow.pyfunc import load_model

    path = [*sys.path]
    folder = tmp_path_factory.mktemp("model")
    fill(folder)
    save_model(folder / "model", folder / "models/weights.safetensors")
    shutil.rmtree(folder / "models")
    loaded = load_model(str(folder / "model"))
    sys.path[:] = path  # without the model's own copy of our code, which other tests have no use for
    return loaded


@pytest.fixture
def client(model: Any) -> Client:
    return Client(application(model, VERSION, LIMIT))


IMAGE = np.full((28, 28, 1), 7, np.uint8).tolist()


def test_every_answer_names_model_version_and_commit(client: Client, model: Any) -> None:
    predicted = client.post(body([IMAGE] * 3))
    assert predicted.status == 200
    expected = model.predict(np.full((3, 28, 28, 1), 7, np.uint8))
    np.testing.assert_allclose(json.loads(predicted.body)["predictions"], expected, atol=1e-7)
    answers = [predicted, client.post(b"{"), client.get("/ping"), client.get("/health"), client.get("/nothing")]
    answers += [client.get("/invocations"), client.get("/version"), client.post(b"", content_type="text/csv")]
    assert [answer.status for answer in answers] == [200, 400, 200, 200, 404, 405, 200, 415]
    assert json.loads(client.get("/version").body) == VERSION
    for answer in answers:
        named = {name: value for name, value in answer.headers.items() if name.startswith("x-fedpipe")}
        assert named == {
            "x-fedpipe-model": "fedpipe-mnist", "x-fedpipe-model-version": "12", "x-fedpipe-commit": "0a1b2c"
        }  # fmt: skip


def test_batches_are_one_answer(client: Client, model: Any) -> None:
    images = np.random.default_rng(3).integers(0, 256, (300, 28, 28, 1), np.uint8)
    large = Client(application(model, VERSION, 10_000_000))
    predictions = np.array(json.loads(large.post(body(images.tolist())).body)["predictions"])
    np.testing.assert_allclose(predictions, model.predict(images), atol=1e-6)


def test_a_body_above_the_limit_is_not_held(client: Client) -> None:
    announced = client.post(b"", content_length=str(LIMIT + 1))
    assert announced.status == 413 and "larger than 100,000 bytes" in announced.message and client.taken == 0
    parts = [b"[" * 30_000] * 1000
    sent = client.post(*parts)
    assert sent.status == 413 and "--limit" in sent.message and client.taken == 4


@pytest.mark.parametrize("sort", ["", "text/csv", "text/plain", "application/parquet", "application/jsonx"])
def test_another_content_type_is_a_sentence(client: Client, sort: str) -> None:
    answer = client.post(body([IMAGE]), content_type=sort)
    assert answer.status == 415 and "the content type should be application/json" in answer.message
    assert client.post(body([IMAGE]), content_type="application/JSON; charset=utf-8").status == 200


@few
@given(sent=strategies.binary(max_size=60) | requests.map(lambda value: json.dumps(value).encode()))
@example(sent=b"[" * 90_000)
def test_no_body_is_a_failure_of_the_server(model: Any, sent: bytes) -> None:
    answer = Client(application(model, VERSION, LIMIT)).post(sent)
    assert answer.status == 400 and answer.message
    assert "x-fedpipe-model-version" in answer.headers


def test_it_answers_while_a_request_is_checked(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check waits until ``/ping`` was answered: were it on the event loop, neither would end."""
    from operations.serve import scoring_app

    pinged, real = threading.Event(), scoring_app.read_images

    def read_slowly(sent: bytes, shape: tuple[int, int, int]) -> np.ndarray:
        assert pinged.wait(20)
        return real(sent, shape)

    monkeypatch.setattr(scoring_app, "read_images", read_slowly)
    client = Client(application(model, VERSION, LIMIT))

    async def both() -> tuple[Answer, Answer]:
        headers = {"content-type": "application/json"}
        request = asyncio.create_task(client.ask("POST", "/invocations", [body([IMAGE])], headers))
        await asyncio.sleep(0.05)
        ping = await Client(client._app).ask("GET", "/ping", [b""], {})
        pinged.set()
        return ping, await request

    ping, answer = asyncio.run(both())
    assert ping.status == answer.status == 200


def test_an_image_costs_no_more_than_its_own_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsed in one piece, a request would keep the interpreter's lock for as long as all of its images take."""
    from operations.serve import scoring_app

    decoded: list[int] = []

    class Decoder:
        def raw_decode(self, text: str, at: int) -> tuple[object, int]:
            value, end = json.JSONDecoder().raw_decode(text, at)
            decoded.append(end - at)
            return value, end

    monkeypatch.setattr(scoring_app, "_DECODER", Decoder())
    read_images(body([GOOD] * 50), SHAPE)
    assert len(decoded) == 51 and max(decoded) < 50
