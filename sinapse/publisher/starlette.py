"""Sinapse for Starlette, and for FastAPI: a lifespan, and what pages need.

::

    sinapse = Sinapse(redis_url="redis://localhost:6379/0", url="https://push.example/")
    app = Starlette(routes=[...], lifespan=sinapse.lifespan)

    async def show(request):
        position = await sinapse.position()    # first, before anything is read
        ...
        session = sinapse.session(request)
        return HTMLResponse(await sinapse.element(request.user, position, session) + ...)

    async def token(request):
        position, session = await sinapse.position(), sinapse.session(request)
        return await sinapse.token_response(request.user, position, session)

    Route("/sinapse.js", sinapse.client_response)    # import { connect } from "/sinapse.js"

    async def log_out(request):
        await sinapse.session(request).log_out()    # and then
        request.session.clear()

With the session, each log-in has one of ours, whose token that of Starlette keeps.
While the application runs, its publishers are the defaults of :mod:`sinapse.publisher.aio` and of
:mod:`sinapse.publisher`, whose mixins then need no settings of their own. In a lifespan of your
own, write ``async with sinapse.lifespan(app): yield``. A mounted application has no lifespan of its
own: publish there with ``sinapse.publisher``.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, TypedDict, Unpack

from starlette.authentication import BaseUser
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles

from sinapse.errors import BrokerUnavailable, InvalidSubject, TokenIsHashed
from sinapse.protocol.keys import subject_id
from sinapse.publisher import aio, defaults
from sinapse.publisher.aio import defaults as aio_defaults
from sinapse.publisher.awaiting import Sessions
from sinapse.publisher.frameworks import page, script
from sinapse.publisher.frameworks.device import Asking, Device, T
from sinapse.publisher.frameworks.options import read
from sinapse.publisher.operations.identity import kind_of

_log = logging.getLogger(__name__)


_files = StaticFiles(directory=script.FOLDER)


class Settings(TypedDict, total=False):
    """Those of :mod:`sinapse.publisher.frameworks.options`."""

    redis_url: str
    prefix: str
    autostart: bool
    url: str
    token_lifetime: float
    retain: float
    retain_messages: int
    max_message: int
    max_connections: int
    connect_timeout: float
    timeout: float
    batch: bool


class DeviceSession:
    """The session of ours that a device has; the session of Starlette keeps it, and its token.

    That is what ``SessionMiddleware`` adds to a request, and it must have something in it, as it
    has when somebody has logged in. A request that says by something else who sends it, such as the
    key of an API, has no session: each of them would open one.
    """

    def __init__(self, request: HTTPConnection, publisher: aio.Publisher) -> None:
        self._request = request
        self._publisher = publisher

    async def log_out(self) -> bool:
        """End it, and its streams; return whether there was one.

        To be called before the session of Starlette is cleared, which knows it. A failure of Redis
        is only logged: it must not prevent a log-out.
        """
        device = self._device
        try:
            return device is not None and await _ask(device.end(), self._publisher.sessions)
        except BrokerUnavailable as error:
            _log.error("The session of a user who logged out is not ended: %s", error)
            return False

    async def end_others(self, subject: object) -> int:
        """End the sessions of the user on all other devices; return how many ended.

        For a new password. `subject` is as in :meth:`Sinapse.connection`; a visitor has none.
        Raises :class:`~sinapse.errors.BrokerUnavailable`.
        """
        names, device = _named(subject), self._device
        if names is None:
            return 0
        if device is None:
            return await self._publisher.sessions.end_all(names.key)
        return await _ask(device.end_others(names.key), self._publisher.sessions)

    async def token(self, subject: page.Named, lifetime: float) -> str | None:
        """Return its token, which lives for `lifetime` seconds at least; None if it cannot be kept.

        It is opened if it is not there, or is of another subject: that of this one ends then.
        """
        device = self._device
        if device is None:
            return None
        return await _ask(device.token(subject.key, lifetime), self._publisher.sessions)

    @property
    def _device(self) -> Device | None:
        kept = self._request.session if "session" in self._request.scope else None
        return Device(kept, self._request.headers.get("User-Agent")) if kept else None


class Sinapse:
    """What an application has of Sinapse; the environment and defaults say what settings do not.

    Raises ``ValueError`` with one line that names the setting and its fault.
    """

    def __init__(self, **settings: Unpack[Settings]) -> None:
        given = {name.upper(): value for name, value in settings.items()}
        self._options = read(given, str.lower)
        self._publisher = defaults.Once(self._options.publisher)
        self._aio = defaults.Once(lambda: aio.Publisher(**self._options.arguments))
        self._publisher()  # The environment may have faults as well,
        self._aio()  # and name what is for synchronous publishers only.

    @property
    def publisher(self) -> aio.Publisher:
        """The publisher of the application, which needs no lifespan.

        Or that which was set by :func:`sinapse.publisher.aio.use`, as tests may do.
        """
        return aio_defaults.default_of(self._aio)

    @asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncIterator[None]:
        """Make all code publish with these settings while the application runs.

        No connection is opened before it is needed; all are closed at the end. With `autostart`,
        the daemon starts with a development server: ``uvicorn --reload``, ``fastapi dev``.
        """
        if self._options.autostart:
            await run_in_threadpool(self._start_daemon)
        defaults.configure(self._publisher)
        aio_defaults.configure(self._aio)
        try:
            yield
        finally:
            defaults.withdraw(self._publisher)
            aio_defaults.withdraw(self._aio)
            self._publisher().close()
            if self._aio.made is not None:
                await self._aio.made.close()

    def _start_daemon(self) -> None:
        # Nobody else needs it, and what it needs.
        from sinapse.publisher.frameworks import development  # noqa: PLC0415

        process = development.owner()
        if process is None:
            development.refuse("autostart")
        else:
            development.start(self._options, str.lower, process)

    async def position(self) -> str:
        """Return the position of a page: to be asked for before the state of the page is read.

        The page connects with it as last event ID: so what is published after the queries, and
        before the stream opens, is not missing. While Redis is away, it is one with which the page
        is told ``reset`` when its stream opens.
        """
        return await position_of(self.publisher)

    def session(self, request: HTTPConnection) -> DeviceSession:
        """Return the session of the device that `request` comes from; nothing is asked yet."""
        return DeviceSession(request, self.publisher)

    async def connection(
        self,
        subject: object | None,
        position: str | None = None,
        session: DeviceSession | None = None,
    ) -> page.Connection:
        """Return what the page of `subject` needs to open its stream, and its `position`.

        `subject` is an object with an id, or the id of a user. A user of Starlette without an id is
        named by its ``identity`` or its ``username``; None, and a user who is not authenticated, is
        a visitor, who has no token. The token of the user of a request is that of the device, if
        its `session` is given, and can be kept; else it is the current one of the subject. Raises
        :class:`~sinapse.errors.BrokerUnavailable`, and for a current one, if tokens are hashed,
        :class:`~sinapse.errors.TokenIsHashed`.
        """
        named = _named(subject)
        if named is None:
            return page.described(self._options, None, position)
        lifetime = self._options.token_lifetime
        token = None if session is None else await session.token(named, lifetime)
        if token is None:
            token = await self.publisher.tokens.obtain(*named, lifetime)
        return page.described(self._options, token, position)

    async def element(
        self,
        subject: object | None,
        position: str | None = None,
        session: DeviceSession | None = None,
    ) -> str:
        """Return the same for HTML: as data in a ``script`` element, escaped.

        While Redis is away there is no token in it: the page is shown without push.
        """
        return page.element(await self._rendered(subject, position, session))

    async def stream_url(
        self,
        subject: object | None,
        position: str | None = None,
        session: DeviceSession | None = None,
    ) -> str | None:
        """Return the URL of the stream for HTML that has it in an attribute, not escaped.

        None if there is no token: the page is shown without push.
        """
        return page.stream_url(await self._rendered(subject, position, session))

    async def _rendered(
        self, subject: object | None, position: str | None, session: DeviceSession | None
    ) -> page.Connection:
        try:
            return await self.connection(subject, position, session)
        except page.NO_TOKEN as error:
            return page.without_push(self._options, error, position)

    async def token_response(
        self,
        subject: object | None,
        position: str | None = None,
        session: DeviceSession | None = None,
    ) -> Response:
        """Answer with the same as JSON.

        A `position` is for a page that loads its state after this answer. 401 without a user, 503
        while Redis is away, 409 if the token is none of a device, and tokens are hashed.
        """
        headers = {"Cache-Control": "no-store", "Vary": "Cookie, Authorization"}
        try:
            content = await self.connection(subject, position, session)
        except BrokerUnavailable:
            headers["Retry-After"] = "5"
            return JSONResponse({"error": "Redis does not answer."}, 503, headers)
        except TokenIsHashed:
            return JSONResponse({"error": page.HASHED}, 409, headers)
        if content["token"] is None:
            return JSONResponse({"error": "You are not signed in."}, 401, headers)
        return JSONResponse(content, headers=headers)

    async def client_response(self, request: HTTPConnection) -> Response:
        """Answer with the JavaScript client, which is a module; 304 if the browser has it.

        ::

            <script type="module">
              import { connect } from "/sinapse.js";
        """
        response = await _files.get_response(script.NAME, request.scope)
        if response.status_code == HTTPStatus.OK:
            response.headers["Content-Type"] = script.TYPE
        return response


async def position_of(publisher: aio.Publisher) -> str:
    """Return the position of a page; while Redis is away, one that is answered with ``reset``."""
    try:
        return await publisher.position()
    except BrokerUnavailable as error:
        return page.no_position(error)


async def _ask(asking: Asking[T], sessions: Sessions) -> T:
    """Call `sessions` for what is asked, and return the result; raises what they raise."""
    answer: Any = None
    try:
        while True:
            answer = await asking.send(answer)(sessions)
    except StopIteration as ended:
        result: T = ended.value
        return result


def _named(subject: object | None) -> page.Named | None:
    if subject is None or getattr(subject, "is_authenticated", True) is False:
        return None
    try:
        return page.named(subject)
    except InvalidSubject:
        if not isinstance(subject, BaseUser):
            raise
    identity: object
    try:
        identity = subject.identity
    except NotImplementedError:
        identity = getattr(subject, "username", None)
    return page.Named(subject_id(identity), kind_of(subject))
