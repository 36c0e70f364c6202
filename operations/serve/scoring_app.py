"""The application that serves a model: MLflow's scoring protocol, whole pixels only, and every answer names the model.

    POST /invocations      {"inputs": [image, ...]} -> {"predictions": [[probability of each class], ...]}
                           {"inputs": [{column: value, ...}, ...]} for a model of tables: a row for each sample
    GET  /ping, /health    status 200 while it serves
    GET  /version          which model this is, as JSON

MLflow's own server casts what it gets to uint8, so that 0.5 becomes 0 and 300 becomes 44, with status 200. It also
parses a request twice in one piece, and answers nothing else meanwhile. Here the images of a request are read one after
the other (`read_images`) in a thread, so that ``/ping`` is answered at any time.

Uvicorn runs this file in a process of its own. It imports nothing else of this project, because the model brings its
own copy of our code.
"""

import asyncio
import contextlib
import gc
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from http import HTTPStatus
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.types import ASGIApp, Receive, Scope, Send

MODEL_VARIABLE = "FEDPIPE_SERVED_MODEL"  # the folder of the MLflow model
VERSION_VARIABLE = "FEDPIPE_SERVED_VERSION"  # JSON: what GET /version answers
LIMIT_VARIABLE = "FEDPIPE_SERVED_LIMIT"  # bytes of a request's body

Shape = tuple[int, int, int]

_KEYS = ("inputs", "instances")  # MLflow's two keys for tensors
_EXPECTED = 'send {"inputs": [image, ...]}'
_EXPECTED_ROWS = 'send {"inputs": [{column: value, ...}, ...]}'
_BODY_SECONDS = 60.0  # for a request's body to arrive
_BATCH = 256  # images that the model gets at a time
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


class BadRequest(ValueError):
    """A request that the model cannot answer; the text is the sentence that the client gets."""

    def __init__(self, text: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(text)
        self.status = status


def create() -> "ASGIApp":
    """The application for the model, its version and the limit that the environment names."""
    from mlflow.pyfunc import load_model

    model = load_model(os.environ[MODEL_VARIABLE])
    gc.freeze()  # TensorFlow's million objects: a collection that looks through them all keeps everybody waiting
    return application(model, json.loads(os.environ[VERSION_VARIABLE]), int(os.environ[LIMIT_VARIABLE]))


def application(model: Any, version: dict[str, Any], limit: int) -> "ASGIApp":
    """The application for a model.

    Args:
      model: A loaded model of MLflow (PyFuncModel), with one tensor or the columns of a table in its signature.
      version: What ``GET /version`` answers; ``model``, ``version`` and ``commit`` of it are in every answer's headers.
      limit: The largest body of a request, in bytes.
    """
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    answer = _answer_of(model)

    async def ping(_: "Request") -> "Response":
        return Response("\n", media_type="application/json")

    async def say_version(_: "Request") -> "JSONResponse":
        return JSONResponse(version)

    async def invocations(request: "Request") -> "JSONResponse":
        try:
            require_json(request.headers.get("content-type", ""))
            body = await _body(request, limit)
            return JSONResponse(await asyncio.to_thread(answer, body))
        except BadRequest as wrong:
            return JSONResponse({"error_code": wrong.status.name, "message": str(wrong)}, wrong.status)

    get = [Route(path, ping, methods=["GET"]) for path in ("/ping", "/health")]
    routes = [
        *get,
        Route("/version", say_version, methods=["GET"]),
        Route("/invocations", invocations, methods=["POST"]),
    ]
    return _Named(Starlette(routes=routes), version)


class _Named:
    """Adds model, version and commit to the headers of every answer, errors too."""

    def __init__(self, app: "ASGIApp", version: dict[str, Any]) -> None:
        self._app = app
        named = {"model": version["model"], "model-version": version["version"], "commit": version["commit"]}
        self._headers = [(f"x-fedpipe-{name}".encode(), _header(value)) for name, value in named.items()]

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        async def send_named(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *self._headers]
            await send(message)

        await self._app(scope, receive, send_named)


def _header(value: object) -> bytes:
    return " ".join(str(value).split()).encode("ascii", "replace")


def require_json(content_type: str) -> None:
    """Raises NotJson for any other content type."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise BadRequest(
            f'the content type should be application/json, not "{content_type[:80]}": {_EXPECTED}',
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        )


async def _body(request: "Request", limit: int) -> bytes:
    """The body of a request, of which no more than ``limit`` bytes are ever held."""
    from starlette.requests import ClientDisconnect

    too_large = BadRequest(
        f"the request is larger than {limit:,} bytes: send fewer images at a time, or start the server with a larger "
        "--limit",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    )
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > limit:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > limit:
                    raise too_large
    except TimeoutError:
        text = f"the request did not arrive within {_BODY_SECONDS:g} s"
        raise BadRequest(text, HTTPStatus.REQUEST_TIMEOUT) from None
    except ClientDisconnect:  # there is nobody left to read this
        raise BadRequest("the request was cut short") from None
    return bytes(body)


def _answer_of(model: Any) -> Callable[[bytes], dict[str, Any]]:
    """A function from the body of a request to the answer, by the model's inputs."""
    inputs = model.metadata.signature.inputs
    if not inputs.is_tensor_spec():
        is_text = {column.name: column.type.name == "string" for column in inputs.inputs}
        return lambda body: _predicted(model, _rows(body, is_text))
    (tensor,) = inputs.inputs
    shape = tuple(int(side) for side in tensor.shape[1:])
    if tensor.type == np.uint8 and len(shape) == 3:
        return lambda body: _predicted(model, read_images(body, shape))
    return lambda body: _predicted(model, _array(body, shape, tensor.type))


def _predicted(model: Any, samples: Any) -> dict[str, Any]:
    """The model's predictions for the samples of a request."""
    from mlflow.exceptions import MlflowException

    from fedpipe.errors import PipelineError  # the model's own copy, which is there once the model is loaded

    batches = (samples[start : start + _BATCH] for start in range(0, len(samples), _BATCH))
    try:
        return {"predictions": list(chain.from_iterable(model.predict(batch).tolist() for batch in batches))}
    except (PipelineError, MlflowException) as error:
        raise BadRequest(str(error)) from None


def _rows(body: bytes, is_text: Mapping[str, bool]) -> Any:
    """The rows of a request as a table; a column that is absent or null has no value.

    Args:
      body: The client's request.
      is_text: The columns that the model knows: whether each holds text, or else numbers.
    """
    import pandas as pd

    rows = []
    for number, row in enumerate(_elements(body, "rows")):
        if not isinstance(row, dict):
            raise BadRequest(f"row {number} is no object of columns: {_EXPECTED_ROWS}")
        if unknown := [name for name in row if name not in is_text]:
            raise BadRequest(f"row {number} has the column {unknown[0][:80]!r}, which the model does not know")
        rows.append([_value_of(number, name, row.get(name), text) for name, text in is_text.items()])
    if not rows:
        raise BadRequest(f"the request has no list of rows: {_EXPECTED_ROWS}")
    table = pd.DataFrame(rows, columns=list(is_text))
    return table.astype({name: object if text else float for name, text in is_text.items()})


def _value_of(number: int, name: str, value: object, is_text: bool) -> str | float | None:
    if value is None or (is_text and isinstance(value, str)):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value) if is_text else float(value)
    raise BadRequest(f"row {number} has in column {name!r} a value that is no {'text' if is_text else 'number'}")


def _array(body: bytes, shape: tuple[int, ...], kind: Any) -> np.ndarray:
    """The samples of a request: an array of the model's type, [n, ...]."""
    samples = []
    for number, element in enumerate(_elements(body, "samples")):
        try:
            sample = np.array(element)
        except ValueError:
            raise BadRequest(f"sample {number} is not nested lists of one size") from None
        if sample.shape != shape or sample.dtype.kind not in ("fiu" if np.dtype(kind).kind == "f" else "iu"):
            raise BadRequest(f"sample {number} is no {_sizes(shape)} numbers; the model takes {np.dtype(kind)}")
        samples.append(sample)
    if not samples:
        raise BadRequest('the request has no list of samples: send {"inputs": [sample, ...]}')
    array = np.stack(samples)
    if np.dtype(kind).kind in "iu" and (array.min() < 0 or array.max() > np.iinfo(kind).max):
        raise BadRequest(f"the samples have numbers that are no {np.dtype(kind)}, or are below 0")
    return array.astype(kind)


def _elements(body: bytes, called: str) -> Iterator[object]:
    """The elements of the request's list of rows or samples.

    Raises:
      BadRequest: It is no JSON of the right form.
    """
    try:
        yield from _images(body)
    except RecursionError:
        raise BadRequest("the request is nested too deeply") from None
    except UnicodeDecodeError:
        raise BadRequest("the request is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise BadRequest(f'the request is not JSON ({error}): send {{"inputs": [...]}} with {called}') from None


def read_images(body: bytes, shape: Shape) -> np.ndarray:
    """The images of a request: uint8 [n, height, width, channels].

    An image is parsed and checked at a time. So a large request neither holds the interpreter's lock for long nor makes
    millions of lists, and the first wrong image ends the work.

    Args:
      body: The client's request.
      shape: Height, width and channels of an image.

    Raises:
      BadRequest: It is not JSON with images of this shape, or a pixel is not an integer from 0 to 255.
    """
    try:
        pixels = [_pixels(f"image {number}", image, shape) for number, image in enumerate(_images(body))]
    except RecursionError:
        raise BadRequest(f"the request is nested too deeply: {_EXPECTED}, images of {_sizes(shape)}") from None
    except UnicodeDecodeError:
        raise BadRequest(f"the request is not UTF-8: {_EXPECTED}") from None
    except json.JSONDecodeError as error:
        raise BadRequest(f"the request is not JSON ({error}): {_EXPECTED}") from None
    if not pixels:
        raise BadRequest(f"the request has no list of images: {_EXPECTED}, images of {_sizes(shape)}")
    return np.frombuffer(b"".join(pixels), np.uint8).reshape(-1, *shape)


def _images(body: bytes) -> Iterator[object]:
    """The elements of the list of images, each parsed at its first use.

    Raises:
      BadRequest: The request is not an object with one of `_KEYS`, or its value is no list.
      JSONDecodeError, UnicodeDecodeError, RecursionError: It is no JSON that can be parsed.
    """
    text = body.decode("utf-8-sig")
    at = _after(text, "{", _skip(text, 0), 'the request is no object with the key "inputs"')
    key, at = _value(text, _skip(text, at)) if not text.startswith("}", _skip(text, at)) else (None, at)
    if key not in _KEYS:
        raise BadRequest(f"the request has no list of images: {_EXPECTED}")
    at = _skip(text, _after(text, ":", _skip(text, at)))
    at = _skip(text, _after(text, "[", at, f'the value of "{key}" is no list of images'))
    while not text.startswith("]", at):
        image, at = _value(text, at)
        yield image
        at = _skip(text, at)
        if not text.startswith("]", at):
            at = _skip(text, _after(text, ",", at))
            if text.startswith("]", at):
                raise json.JSONDecodeError("Expecting value", text, at)
    at = _skip(text, at + 1)
    if text.startswith(",", at):
        raise BadRequest(f'the request has more keys than "{key}": {_EXPECTED}, and nothing else')
    if _skip(text, _after(text, "}", at)) != len(text):
        raise json.JSONDecodeError("Extra data", text, at)


def _value(text: str, at: int) -> tuple[object, int]:
    """The value that begins there, and where it ends."""
    try:
        return _DECODER.raw_decode(text, at)
    except json.JSONDecodeError:
        raise
    except ValueError as error:  # an integer of thousands of digits
        raise json.JSONDecodeError(str(error).partition(";")[0], text, at) from None


def _skip(text: str, at: int) -> int:
    """Where the white space from ``at`` on ends."""
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _after(text: str, mark: str, at: int, otherwise: str = "") -> int:
    """The place after ``mark``, which has to be at ``at``; ``otherwise`` says what is wrong if a value is there."""
    if text.startswith(mark, at):
        return at + 1
    if otherwise and at < len(text):
        _value(text, at)  # what is no JSON at all is called so
        raise BadRequest(f"{otherwise}: {_EXPECTED}")
    raise json.JSONDecodeError(f"Expecting '{mark}'", text, at)


def _pixels(called: str, image: object, shape: Shape) -> bytes:
    """The pixels of an image that is as the model takes it, row by row."""
    level: list[Any] = [image]
    for axis, size in enumerate(shape):
        if set(map(type, level)) != {list} or set(map(len, level)) != {size}:
            raise BadRequest(_described(called, level, shape, axis))
        level = list(chain.from_iterable(level))
    kinds = set(map(type, level))
    if list in kinds:
        raise BadRequest(_described(called, level, shape, len(shape)))
    if kinds == {int}:  # exactly: true is no pixel
        with contextlib.suppress(ValueError, OverflowError):
            return bytes(level)
    wrong = next(pixel for pixel in level if type(pixel) is not int or not 0 <= pixel <= 255)
    raise BadRequest(
        f"{called} has the pixel {json.dumps(wrong)[:40]}; pixels must be integers from 0 to 255 "
        "(multiply an image in [0, 1] by 255 and round)"
    )


def _described(called: str, level: list[Any], shape: Shape, axis: int) -> str:
    """What an image is that has the right sizes up to ``axis`` only; ``level`` holds its parts there."""
    sizes = list(shape[:axis])
    while set(map(type, level)) == {list} and len(set(map(len, level))) == 1 and len(sizes) <= len(shape):
        sizes.append(len(level[0]))
        level = list(chain.from_iterable(level))
    is_list = [type(part) is list for part in level]
    if any(is_list) and not (all(is_list) and len(set(map(len, level))) == 1):
        return f"{called} is not nested lists of one size; the model takes images of {_sizes(shape)}"
    received = f"{_sizes(sizes)}{' x ...' if any(is_list) else ''}" if sizes else "no list"
    return f"{called} is {received}; the model takes images of {_sizes(shape)} (height x width x channels)"


def _sizes(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))
