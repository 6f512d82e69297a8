"""The page's server: routes, limits and headers. What is answered stands in `answers`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sightread.errors import SightreadError
from sightread.templates import render
from sightread.web import answers, downloads, questions
from sightread.web.exhibit import Exhibit
from sightread.web.thumbnails import SIDES

MAX_BODY = 32 * 1024  # bytes, of a request
LOCAL = ("localhost", "127.0.0.1", "[::1]")
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_PAGE = Path(__file__).parent / "page"
_A_DAY = "private, max-age=86400"

A = TypeVar("A", bound=questions.Asked)
Endpoint = Callable[[Request], Awaitable[Response]]


def build_app(exhibit: Exhibit, hosts: Sequence[str] = LOCAL) -> ASGIApp:
    """The server of an exhibit.

    Args:
        exhibit: What is shown.
        hosts: Names under which it may be asked for, so that no other site can point its own name here; "*": any.
    """
    exhibit.check()
    app = Starlette(
        routes=[
            _file("/", _PAGE / "page.html", "text/html"),
            _file("/page.css", _PAGE / "page.css", "text/css", above=render("style.css")),
            *(_file(f"/{path.name}", path, "text/javascript") for path in sorted(_PAGE.glob("*.js"))),
            Route("/pictures/{gallery}/{row:int}/{size}.jpg", _picture_of(exhibit)),
            Route("/api/about", lambda _: JSONResponse(answers.about(exhibit))),
            *_questions(exhibit),
        ],
        exception_handlers={
            ValidationError: lambda _, error: _refusal(422, _in_words(error)),
            SightreadError: lambda _, error: _refusal(422, str(error)),
            HTTPException: lambda _, error: _refusal(error.status_code, error.detail),
            Exception: lambda *_: _refusal(500, "the server failed at this; what happened stands in its window"),
        },
        max_body_size=MAX_BODY,
    )
    return _Headed(TrustedHostMiddleware(app, list(hosts), www_redirect=False))


def _questions(exhibit: Exhibit) -> list[Route]:
    """What can be asked. Vokenizers have one thread, slow looks another, so that these hold up no text."""
    thinking, looking, reading = (CapacityLimiter(count) for count in (1, 1, 4))

    def asks(
        name: str, kind: type[A], answer: Callable[[Exhibit, A], Any], turn: CapacityLimiter, media: str = ""
    ) -> Route:
        async def endpoint(request: Request) -> Response:
            if request.headers.get("content-type", "").partition(";")[0] != "application/json":
                raise HTTPException(415, "send application/json")
            asked = kind.model_validate_json(await request.body())
            found = await to_thread.run_sync(partial(answer, exhibit, asked), limiter=turn)
            return Response(found, media_type=media) if media else JSONResponse(found)

        return Route(f"/api/{name}", endpoint, methods=["POST"])

    return [
        asks("vokens", questions.VokensAsked, answers.vokens, thinking),
        asks("search", questions.SearchAsked, answers.search, thinking),
        asks("captions", questions.PictureAsked, answers.captions, reading),
        asks("evidence", questions.EvidenceAsked, answers.where, looking),
        asks("choosers", questions.PictureAsked, answers.choosers, looking),
        asks("compare", questions.ComparisonAsked, answers.compare, reading),
        asks("strip.html", questions.StripsAsked, downloads.page, thinking, "text/html"),
        asks("strip.png", questions.StripsAsked, downloads.png, thinking, "image/png"),
    ]


def _picture_of(exhibit: Exhibit) -> Endpoint:
    galleries, reading = {gallery.key: gallery for gallery in exhibit.galleries.values()}, CapacityLimiter(4)

    async def picture(request: Request) -> Response:
        gallery, row, size = (request.path_params[part] for part in ("gallery", "row", "size"))
        if gallery not in galleries or size not in SIDES or row >= len(galleries[gallery]):
            raise HTTPException(404, "there is no such picture")
        jpeg, there = await to_thread.run_sync(galleries[gallery].jpeg, row, size, limiter=reading)
        cached = {"cache-control": _A_DAY} if there else {}
        return Response(jpeg, 200 if there else 404, media_type="image/jpeg", headers=cached)

    return picture


class _Headed:
    """Every answer with `HEADERS`, those to errors too; what says nothing else is not kept."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await self.app(scope, receive, headed)


def _file(route: str, path: Path, media: str, above: str = "") -> Route:
    text = above + path.read_text(encoding="utf-8")
    return Route(route, lambda _: Response(text, media_type=media, headers={"cache-control": "no-cache"}))


def _refusal(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status)


def _in_words(error: ValidationError) -> str:
    faults = [(".".join(map(str, fault["loc"])) or "request", fault["msg"].lower()) for fault in error.errors()]
    return "; ".join(f"{place}: {message}" for place, message in faults)
