"""The page on which people try a model: its files, and what it asks for."""

import importlib.resources
import pathlib
import re

from starlette.responses import Response

from keras_moe.serving.protocol import _status_codes as status_codes
from keras_moe.serving.server._call import Call
from keras_moe.serving.server._model_api import ModelApi
from keras_moe.serving.server.rest import _rest_handler as rest_handler
from keras_moe.serving.versions._page import PICTURE_KINDS
from keras_moe.serving.versions._version_folders import version_number

# The same whatever the model is, and so for anybody to see.
FILES = re.compile(r"/|/favicon\.ico|/page/([a-z]+\.(?:css|js|svg))")
MODEL = re.compile(r"/page/model\.json")
PICTURE = re.compile(r"/page/(\d+)/([\w-]+\.\w+)", re.ASCII)
_FIRST, _ICON = "index.html", "icon.svg"
_KINDS = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Nothing runs and nothing is loaded but what the server itself gave; pictures
# come as blobs, since a browser sends no token with the request of an <img>.
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class PageHandler:
    """Answers a browser.

    Args:
        api: describes the model.
    """

    def __init__(self, api: ModelApi):
        self._api = api
        folder = importlib.resources.files("keras_moe.serving.server") / "page"
        self._files = {
            file.name: file.read_bytes()
            for file in folder.iterdir()
            if file.is_file()
        }

    def show(self, call: Call, path: re.Match[str], body: bytes) -> Response:
        """Answers with a file of the page.

        Args:
            call: is told the method.
            path: matches `FILES`.
            body: is not looked at.

        Raises:
            tf.errors.NotFoundError: there is no such file.
        """
        call.method = "Page"
        name = path[1] or (_FIRST if path[0] == "/" else _ICON)
        if name not in self._files:
            raise status_codes.not_found(f"There is no {path[0]}")
        return Response(
            self._files[name],
            headers=_HEADERS,
            media_type=_KINDS[pathlib.PurePosixPath(name).suffix],
        )

    def describe(
        self, call: Call, path: re.Match[str], body: bytes
    ) -> Response:
        """Answers with what the page is made from: signatures and words.

        Args:
            call: is told the method.
            path: matches `MODEL`.
            body: is not looked at.

        Raises:
            tf.errors.NotFoundError: no version is being served.
        """
        call.method = "Page"
        metadata, page = self._api.page()
        document = rest_handler.metadata_document(
            self._api.model_name, *metadata
        )
        document["page"] = page and page.document
        return Response(
            rest_handler.to_json(document),
            headers=_HEADERS,
            media_type=rest_handler.JSON,
        )

    def picture(self, call: Call, path: re.Match[str], body: bytes) -> Response:
        """Answers with a picture of a version.

        Args:
            call: is told the method.
            path: matches `PICTURE`.
            body: is not looked at.

        Raises:
            tf.errors.NotFoundError: there is no such picture.
        """
        call.method = "Page"
        version, name = version_number(path[1]), path[2]
        page = self._api.page(version)[1] if version is not None else None
        if page is None or name not in page.pictures:
            raise status_codes.not_found(f"There is no {path[0]}")
        return Response(
            page.pictures[name],
            headers=_HEADERS,
            media_type=PICTURE_KINDS[pathlib.PurePosixPath(name).suffix],
        )
