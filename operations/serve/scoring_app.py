"""MLflow's scoring application, with a check of every request before it: only whole pixels reach the model.

MLflow casts what it gets to uint8, so that 0.5 becomes 0 and 300 becomes 44, with status 200. Uvicorn runs this file
in a process of its own. It imports nothing else of this project, because the model brings its own copy of our code.
"""

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

MODEL_VARIABLE = "FEDPIPE_SERVED_MODEL"
_KEYS = ("inputs", "instances")  # MLflow's two keys for tensors


class BadRequest(ValueError):
    """A request that the model cannot answer; the text is the sentence that the client gets."""


def create() -> "FastAPI":
    """The application, with the model that the environment variable `MODEL_VARIABLE` names (a URI of MLflow)."""
    from fastapi.responses import JSONResponse
    from mlflow.pyfunc import load_model, scoring_server

    model = load_model(os.environ[MODEL_VARIABLE])
    (images,) = model.metadata.signature.inputs.inputs
    app: FastAPI = scoring_server.init(model)

    @app.middleware("http")
    async def check(request: "Request", answer: Any) -> "Response":
        if request.url.path == "/invocations" and request.method == "POST":
            try:
                check_images(await request.body(), request.headers.get("content-type", ""), images.shape[1:])
            except BadRequest as refused:
                return JSONResponse({"error_code": "BAD_REQUEST", "message": str(refused)}, status_code=400)
        return await answer(request)

    return app


def check_images(body: bytes, content_type: str, shape: tuple[int, int, int]) -> None:
    """Checks that a request holds images as the model takes them.

    Args:
      body: What the client sent.
      content_type: The request's header of this name.
      shape: Height, width and channels of an image.

    Raises:
      BadRequest: It is not JSON with images of this shape, or a pixel is not an integer from 0 to 255.
    """
    expected = " x ".join(map(str, shape))
    if content_type.partition(";")[0].strip() != "application/json":
        raise BadRequest('send images as application/json: {"inputs": [image, ...]}')
    try:
        request = json.loads(body)
    except ValueError as error:
        raise BadRequest(f'the request is not JSON ({error}): send {{"inputs": [image, ...]}}') from None
    given = [key for key in _KEYS if isinstance(request, dict) and key in request]
    if len(given) != 1 or not isinstance(request[given[0]], list) or not request[given[0]]:
        raise BadRequest(f'the request has no list of images: send {{"inputs": [image, ...]}}, images of {expected}')
    for number, image in enumerate(request[given[0]]):
        _check_image(f"image {number}", image, shape, expected)


def _check_image(called: str, image: object, shape: tuple[int, int, int], expected: str) -> None:
    try:
        pixels = np.array(image, dtype=object)
    except ValueError as error:  # lists of different lengths
        raise BadRequest(f"{called} is not nested lists of one size ({error}); the model takes {expected}") from None
    if pixels.shape != shape:
        found = " x ".join(map(str, pixels.shape)) or "no list"
        raise BadRequest(f"{called} is {found}; the model takes images of {expected} (height x width x channels)")
    flat = pixels.ravel().tolist()
    if set(map(type, flat)) != {int} or min(flat) < 0 or max(flat) > 255:
        wrong = next(pixel for pixel in flat if not _is_byte(pixel))
        raise BadRequest(
            f"{called} has the pixel {json.dumps(wrong)[:40]}; pixels must be integers from 0 to 255 "
            "(multiply an image in [0, 1] by 255 and round)"
        )


def _is_byte(value: object) -> bool:
    return type(value) is int and 0 <= value <= 255  # not isinstance: true is no pixel
