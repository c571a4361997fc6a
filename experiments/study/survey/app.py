"""The survey on the web: forms and a style sheet, no script, nothing from elsewhere. A participant is known by a cookie.

Every POST is answered with a redirect to the page that is due, so reloading, going back and sending twice do no harm.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import parse_qs

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from experiments.study.survey.participant import QUESTIONS
from experiments.study.survey.survey import MAX_WORKER, Page, Survey
from experiments.study.wording import INTRODUCTION, question
from langptune.errors import InvalidArgument, NotFound

_PAGES = Path(__file__).parent / "pages"
_COOKIE = "participant"
_MAX_BODY = 4_096  # bytes of a form
_POLICY = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def make_app(survey: Survey, consent: str = "", *, secure_cookie: bool = False) -> Starlette:
    """The application. `consent` is put before the standard consent text: who asks, and whom to write to."""
    site = _Site(survey, consent, secure_cookie)
    return Starlette(
        routes=[
            Route("/", site.welcome, methods=["GET"]),
            Route("/begin", site.begin, methods=["POST"]),
            Route("/survey", site.show, methods=["GET"]),
            Route("/survey/{step}", site.take, methods=["POST"]),
            Route("/status", site.status, methods=["GET"]),
            Mount("/style", StaticFiles(directory=_PAGES / "style")),
        ]
    )


class _Site:
    def __init__(self, survey: Survey, consent: str, secure_cookie: bool) -> None:
        self._survey = survey
        self._consent = consent
        self._secure = secure_cookie
        self._templates = Environment(
            loader=FileSystemLoader(_PAGES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )

    async def welcome(self, request: Request) -> Response:
        """Consent. ?worker=... is kept with the answers."""
        worker = request.query_params.get("worker", "")[:MAX_WORKER]
        return self._html("consent.html", consent=self._consent, worker=worker, noun=self._survey.kit.wording.noun)

    async def begin(self, request: Request) -> Response:
        """Somebody agrees."""
        form = await _form(request)
        if form.get("agree") != "yes":
            return RedirectResponse("/", status_code=303)
        participant = await run_in_threadpool(self._survey.begin, form.get("worker", ""))
        answer = RedirectResponse("/survey", status_code=303)
        answer.set_cookie(_COOKIE, participant, max_age=86_400, httponly=True, samesite="strict", secure=self._secure)
        return answer

    async def show(self, request: Request) -> Response:
        """The page that is due."""
        return await self._known(request, lambda participant: self._page(participant, ""))

    async def take(self, request: Request) -> Response:
        """An answer."""
        form = await _form(request)

        async def submit(participant: str) -> Response:
            try:
                await run_in_threadpool(self._survey.submit, participant, request.path_params["step"], form)
            except InvalidArgument as error:
                return await self._page(participant, error.message.partition(": ")[2])
            return RedirectResponse("/survey", status_code=303)

        return await self._known(request, submit)

    async def status(self, request: Request) -> Response:
        """How many have come how far; no answers."""
        return JSONResponse(await run_in_threadpool(self._survey.counts), headers=_HEADERS)

    async def _known(self, request: Request, then: Callable[[str], Awaitable[Response]]) -> Response:
        """What `then` answers to somebody who has consented; others are led to the beginning."""
        try:
            return await then(request.cookies.get(_COOKIE, ""))
        except NotFound:
            return RedirectResponse("/", status_code=303)

    async def _page(self, participant: str, problem: str) -> Response:
        page = await run_in_threadpool(self._survey.page, participant)
        wording = self._survey.kit.wording
        names = {"screening": "question.html", "task": "question.html", "questionnaire": "questionnaire.html", "end": "end.html"}
        return self._html(
            names[page.step.partition("-")[0]],
            status=422 if problem else 200,
            page=page,
            problem=problem,
            introduction=INTRODUCTION,
            asked=question(wording),
            questions={name: (text.format(noun=wording.noun), answers) for name, (text, answers) in QUESTIONS.items()},
        )

    def _html(self, name: str, *, status: int = 200, **values: object) -> Response:
        values.setdefault("page", Page("consent", 0, 1))
        return HTMLResponse(self._templates.get_template(name).render(values), status_code=status, headers=_HEADERS)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a small URL-encoded form."""
    body = b""
    try:
        async for part in request.stream():
            body += part
            if len(body) > _MAX_BODY:
                raise HTTPException(413)
    except ClientDisconnect as error:
        raise HTTPException(400) from error
    return {name: values[-1] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
