"""A page and an HTTP interface for one classifier: image files in, probabilities and heat out.

An image is the body of a POST request, in any format that tlclassify reads. Answers are JSON, or a
PNG of heat; so are errors, which say in ``detail`` what was wrong. There is no password: whoever
reaches the port may ask.
"""

import asyncio
import io
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse
from numpy.typing import NDArray
from PIL import Image

import tlclassify

_MAX_BYTES, _MAX_PIXELS = 10 * 2**20, 40_000_000
# Unpacked, each may take some hundred MB. Keras has its own turn: its session is cleared.
_N_AT_ONCE, _N_SHOWN = 2, 10
_PAGE = Path(__file__).with_name("serve.html")
_HEADERS = {
    # The page loads nothing from elsewhere, and no other page may hold it in a frame.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src "
    "'unsafe-inline'; img-src blob: data:; connect-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
# Of viridis, evenly spaced; the hotter a place, the more of the image is covered.
_COLORS = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)])
_STRONGEST = 0.8


def build_app(clf: Any, *, name: str = "", max_bytes: int = _MAX_BYTES) -> FastAPI:
    """Return the application; all images opened in this process are held to 40 million pixels."""
    app = FastAPI(title="tlclassify", docs_url=None, redoc_url=None, openapi_url=None)
    app.middleware("http")(_add_headers)
    app.add_exception_handler(Exception, _tell_of_failure)
    page, labels, has_heat = _PAGE.read_text("utf-8"), clf.classes_.tolist(), hasattr(clf, "model_")
    turns = asyncio.Semaphore(1 if has_heat else _N_AT_ONCE)
    about = clf.blueprint_ if has_heat else clf.metadata_
    # What Pillow by itself only warns of is refused, wherever an image is opened.
    Image.MAX_IMAGE_PIXELS = _MAX_PIXELS
    warnings.simplefilter("error", Image.DecompressionBombWarning)

    @app.get("/", response_class=HTMLResponse)
    def show_page() -> str:
        return page

    @app.get("/info")
    def tell() -> dict[str, Any]:
        return {
            "name": name,
            "classes": labels,
            "backbone": getattr(about, "backbone_name", about.backbone),
            "weights_licence": about.weights_licence,
            "has_heat": has_heat,
            "max_bytes": max_bytes,
        }

    async def look(request: Request, run: Callable[[list[Any]], Any]) -> Any:
        upload = await _read_upload(request, max_bytes)
        async with turns:
            # Beside the loop, so that the page still answers while an image is looked at.
            return await run_in_threadpool(_run, run, upload)

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        probabilities = (await look(request, clf.predict_proba))[0]
        order = probabilities.argsort()[::-1][:_N_SHOWN].tolist()
        columns = ("column", "label", "probability")
        rows = ((k, labels[k], float(probabilities[k])) for k in order)
        classes = [dict(zip(columns, row, strict=True)) for row in rows]
        return {"label": labels[order[0]], "classes": classes}

    @app.post("/heat")
    async def explain(request: Request, column: int) -> Response:
        if not (has_heat and 0 <= column < len(labels)):
            raise HTTPException(404, "Heat is there for the columns of a model that `fit` wrote.")
        heat = await look(request, lambda X: _explain(clf, X, labels[column]))
        return Response(_draw_heat(heat[0]), media_type="image/png")

    return app


async def _add_headers(
    request: Request, answer: Callable[[Request], Awaitable[Response]]
) -> Response:
    response = await answer(request)
    response.headers.update(_HEADERS)
    return response


async def _tell_of_failure(_: Request, __: Exception) -> Response:
    # Errors of the program go past _add_headers, and into the log.
    detail = {"detail": "The server failed. Its log says why."}
    return JSONResponse(detail, 500, headers=_HEADERS)


async def _read_upload(request: Request, max_bytes: int) -> bytes:
    """Return the body of a request, and stop reading when it grows too large."""
    upload = bytearray()
    async for part in request.stream():
        upload += part
        if len(upload) > max_bytes:
            raise HTTPException(
                413,
                f"The image is larger than {max_bytes / 2**20:g} MiB. Make it smaller: the "
                "network looks at few pixels anyway.",
            )
    if not upload:
        raise HTTPException(400, "There is no image. Send one as the body of the request.")
    return bytes(upload)


def _run(run: Callable[[list[Any]], Any], upload: bytes) -> Any:
    """Return what is run on one image, or refuse it in words."""
    try:
        # Bytes by themselves might be read as a path.
        return run([{"bytes": upload}])
    except OSError as error:
        reason = str(error).split("X[0]: ")[-1].split("\n")[0].rstrip(".")
        raise HTTPException(422, f"The image cannot be read: {reason}.") from error


def _explain(clf: Any, X: list[Any], label: Any) -> NDArray[np.float32]:
    import keras

    heat = tlclassify.grad_cam(clf, X, labels=label)
    # The networks that it builds are kept by Keras, some MB each, and would fill the memory.
    keras.backend.clear_session()
    return heat


def _draw_heat(heat: NDArray[np.float32]) -> bytes:
    """Return a heat map as a PNG to be laid over the image."""
    stops, content = np.linspace(0, 1, len(_COLORS)), io.BytesIO()
    channels = [np.interp(heat, stops, channel) for channel in _COLORS.T]
    pixels = np.stack([*channels, 255 * _STRONGEST * heat], axis=-1)
    Image.fromarray(np.rint(pixels).astype(np.uint8)).save(content, "PNG")
    return content.getvalue()
