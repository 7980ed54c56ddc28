"""Sinapse for Starlette, and for FastAPI: a lifespan, and what pages need.

::

    sinapse = Sinapse(redis_url="redis://localhost:6379/0", url="https://push.example/")
    app = Starlette(routes=[...], lifespan=sinapse.lifespan)

    async def show(request):
        position = await sinapse.position()    # first, before anything is read
        ...
        return HTMLResponse(await sinapse.element(request.user, position) + ...)

    async def token(request):
        return await sinapse.token_response(request.user, await sinapse.position())

While the application runs, its publishers are the defaults of :mod:`sinapse.publisher.aio` and of
:mod:`sinapse.publisher`, whose mixins then need no settings of their own. In a lifespan of your
own, write ``async with sinapse.lifespan(app): yield``. A mounted application has no lifespan of its
own: publish there with ``sinapse.publisher``.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict, Unpack

from starlette.authentication import BaseUser
from starlette.responses import JSONResponse, Response

from sinapse.errors import BrokerUnavailable, InvalidSubject, TokenIsHashed
from sinapse.protocol.keys import subject_id
from sinapse.publisher import aio, defaults
from sinapse.publisher.aio import defaults as aio_defaults
from sinapse.publisher.frameworks import page
from sinapse.publisher.frameworks.options import read
from sinapse.publisher.operations.identity import kind_of


class Settings(TypedDict, total=False):
    """Those of :mod:`sinapse.publisher.frameworks.options`."""

    redis_url: str
    url: str
    token_lifetime: float
    retain: float
    retain_messages: int
    max_message: int
    max_connections: int
    connect_timeout: float
    timeout: float


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

        No connection is opened before it is needed; all are closed at the end.
        """
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

    async def position(self) -> str:
        """Return the position of a page: to be asked for before the state of the page is read.

        The page connects with it as last event ID: so what is published after the queries, and
        before the stream opens, is not missing. While Redis is away, it is one with which the page
        is told ``reset`` when its stream opens.
        """
        return await position_of(self.publisher)

    async def connection(
        self, subject: object | None, position: str | None = None
    ) -> page.Connection:
        """Return what the page of `subject` needs to open its stream, and its `position`.

        `subject` is an object with an id, or the id of a user. A user of Starlette without an id is
        named by its ``identity`` or its ``username``; None, and a user who is not authenticated, is
        a visitor, who has no token. Raises :class:`~sinapse.errors.BrokerUnavailable`, and, if
        tokens are hashed, :class:`~sinapse.errors.TokenIsHashed`.
        """
        named = _named(subject)
        if named is None:
            return page.described(self._options, None, position)
        token = await self.publisher.tokens.obtain(*named, self._options.token_lifetime)
        return page.described(self._options, token, position)

    async def element(self, subject: object | None, position: str | None = None) -> str:
        """Return the same for HTML: as data in a ``script`` element, escaped.

        While Redis is away there is no token in it: the page is shown without push.
        """
        try:
            content = await self.connection(subject, position)
        except page.NO_TOKEN as error:
            content = page.without_push(self._options, error, position)
        return page.element(content)

    async def token_response(self, subject: object | None, position: str | None = None) -> Response:
        """Answer with the same as JSON.

        A `position` is for a page that loads its state after this answer. 401 without a user, 503
        while Redis is away, 409 if tokens are hashed.
        """
        headers = {"Cache-Control": "no-store", "Vary": "Cookie, Authorization"}
        try:
            content = await self.connection(subject, position)
        except BrokerUnavailable:
            headers["Retry-After"] = "5"
            return JSONResponse({"error": "Redis does not answer."}, 503, headers)
        except TokenIsHashed:
            return JSONResponse({"error": page.HASHED}, 409, headers)
        if content["token"] is None:
            return JSONResponse({"error": "You are not signed in."}, 401, headers)
        return JSONResponse(content, headers=headers)


async def position_of(publisher: aio.Publisher) -> str:
    """Return the position of a page; while Redis is away, one that is answered with ``reset``."""
    try:
        return await publisher.position()
    except BrokerUnavailable as error:
        return page.no_position(error)


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
