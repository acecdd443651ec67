"""A page and an HTTP interface for one exported classifier; it needs neither Keras nor TensorFlow.

    pip install "tlclassify[serve]"
    python examples/serve.py shapes.onnx          # then open http://127.0.0.1:8000
    curl --data-binary @photo.jpg http://127.0.0.1:8000/predict

The file comes from ``tlclassify.export``. An image is the body of a POST request, in
any format that tlclassify reads. Answers are JSON; so are errors, which say in ``detail`` what was
wrong. There is no password: whoever reaches the port may ask.
"""

import argparse
import asyncio
import tempfile
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse
from PIL import Image

from tlclassify import ExportedClassifier, load_exported
from tlclassify._checks.files import IMAGE_FORMATS

MAX_BYTES = 10 * 2**20
MAX_PIXELS = 40_000_000
# Unpacked, each may take some hundred MB.
N_AT_ONCE = 2
N_SHOWN = 10
PAGE = Path(__file__).with_name("serve.html")
HEADERS = {
    # The page loads nothing from elsewhere, and no other page may hold it in a frame.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src "
    "'unsafe-inline'; img-src blob: data:; connect-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


def build_app(clf: ExportedClassifier, *, max_bytes: int = MAX_BYTES) -> FastAPI:
    """Return the application; all images opened in this process are held to `MAX_PIXELS`.

    Parameters
    ----------
    clf : ExportedClassifier
    max_bytes : int
        The largest upload.
    """
    app = FastAPI(title="tlclassify", docs_url=None, redoc_url=None, openapi_url=None)
    page = PAGE.read_text(encoding="utf-8")
    turns = asyncio.Semaphore(N_AT_ONCE)
    # What Pillow by itself only warns of is refused, wherever an image is opened.
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    warnings.simplefilter("error", Image.DecompressionBombWarning)

    @app.middleware("http")
    async def add_headers(
        request: Request, answer: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        response = await answer(request)
        response.headers.update(HEADERS)
        return response

    @app.exception_handler(Exception)
    async def tell_of_failure(_: Request, __: Exception) -> Response:
        # Errors of the program go past add_headers, and into the log.
        return JSONResponse(
            {"detail": "The server failed. Its log says why."}, 500, headers=HEADERS
        )

    @app.get("/", response_class=HTMLResponse)
    def show_page() -> str:
        return page

    @app.get("/info")
    def tell() -> dict[str, Any]:
        height, width, _ = clf.image_shape_
        return {
            "classes": clf.classes_.tolist(),
            "height": height,
            "width": width,
            "backbone": clf.metadata_.backbone,
            "weights_licence": clf.metadata_.weights_licence,
            "engine": clf.engine_,
            "max_bytes": max_bytes,
        }

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        upload = await read_upload(request, max_bytes)
        async with turns:
            # Beside the loop, so that the page still answers while an image is looked at.
            return await run_in_threadpool(classify, clf, upload)

    return app


async def read_upload(request: Request, max_bytes: int) -> bytes:
    """Return the body of a request, and stop reading when it grows too large."""
    parts, n_bytes = [], 0
    async for part in request.stream():
        n_bytes += len(part)
        if n_bytes > max_bytes:
            raise HTTPException(
                413,
                f"The image is larger than {max_bytes / 2**20:g} MiB. Make it smaller: the "
                "network looks at few pixels anyway.",
            )
        parts.append(part)
    if not n_bytes:
        raise HTTPException(400, "There is no image. Send one as the body of the request.")
    return b"".join(parts)


def classify(clf: ExportedClassifier, upload: bytes) -> dict[str, Any]:
    """Return the most probable classes of one image."""
    with tempfile.TemporaryDirectory() as folder:
        # By way of a file, which tlclassify reads with all its care for modes and rotations.
        path = Path(folder) / "upload"
        path.write_bytes(upload)
        check_image(path)
        try:
            probabilities = clf.predict_proba([path])[0]
        except OSError as error:
            reason = str(error).split(f"{path}: ")[-1].split("\n")[0]
            raise HTTPException(422, f"The image cannot be read: {reason}.") from error
    order = probabilities.argsort()[::-1][:N_SHOWN]
    labels = clf.classes_.tolist()
    shown = [{"label": labels[k], "probability": float(probabilities[k])} for k in order]
    return {"label": shown[0]["label"], "classes": shown}


def check_image(path: Path) -> None:
    """Refuse other formats, and what unpacks to too much: its size stands in its first bytes."""
    try:
        Image.open(path, formats=IMAGE_FORMATS).close()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise HTTPException(
            413, f"The image has more than {MAX_PIXELS // 10**6} million pixels. Make it smaller."
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise HTTPException(
            422, f"This is not an image that can be read. Send one of {', '.join(IMAGE_FORMATS)}."
        ) from error


def main() -> None:
    """Serve the file named on the command line."""
    parser = argparse.ArgumentParser(description="Serve an exported classifier.")
    parser.add_argument("path", help="a file that tlclassify.export has written: .onnx or .xml")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0: for other machines too")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--engine", default="auto", help="auto, openvino, openvino_bfloat16 or onnxruntime"
    )
    options = parser.parse_args()
    clf = load_exported(options.path, engine=options.engine)
    uvicorn.run(build_app(clf), host=options.host, port=options.port)


if __name__ == "__main__":
    main()
