"""Sinapse for Flask: an extension, with its settings in ``app.config``.

::

    sinapse = Sinapse(app)    # or Sinapse(), and later sinapse.init_app(app)

    @sinapse.subject_loader
    def subject():
        return User.get(session["user"]) if "user" in session else None

    app.add_url_rule("/sinapse/token", view_func=sinapse.token_view)

    @app.get("/")
    @sinapse.with_position
    def page(): ...

    @app.post("/logout")
    def log_out():
        sinapse.log_out()    # and then
        session.clear()

and in a template ``{{ sinapse_connection() }}``, or ``{{ sinapse_connection(user) }}`` without a
loader; a module has ``import { connect } from "{{ sinapse_client() }}"``. Each log-in has a session
of ours, whose token Flask's session keeps. Settings are those of
:mod:`sinapse.publisher.frameworks.options` with ``SINAPSE_`` before them: ``SINAPSE_REDIS_URL``,
``SINAPSE_URL``, ``SINAPSE_RETAIN``, ... With ``SINAPSE_AUTOSTART``, the daemon starts with ``flask
run --debug``, and with ``app.run(debug=True)``. The mixins, and :func:`sinapse.publisher.default`,
publish to the Redis of the current application, and outside of an application's context to that of
the application which was initialised last.

On the command line: ``flask sinapse publish``, ``flask sinapse token``.
"""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import click
from flask import (
    Flask,
    Response,
    current_app,
    has_app_context,
    has_request_context,
    jsonify,
    request,
    request_started,
    send_from_directory,
    session,
    url_for,
)
from flask.cli import AppGroup, run_command
from flask.helpers import get_debug_flag
from markupsafe import Markup

from sinapse.errors import BrokerUnavailable, SinapseError, TokenIsHashed
from sinapse.publisher import defaults
from sinapse.publisher.client import Publisher
from sinapse.publisher.frameworks import page, script
from sinapse.publisher.frameworks.device import Device, ask
from sinapse.publisher.frameworks.options import Options, read
from sinapse.publisher.operations.identity import ChannelLike
from sinapse.publisher.operations.published import Published
from sinapse.publisher.operations.retention import Replay, read_replay

L = TypeVar("L", bound=Callable[[], object])
V = TypeVar("V", bound=Callable[..., Any])

_log = logging.getLogger(__name__)

_NAME = "sinapse"
_PREFIX = "SINAPSE_"
_FORM = f"{_PREFIX}{{}}".format

#: Where the application has the JavaScript client, and by which name.
_CLIENT_PATH = f"/sinapse/{script.NAME}"
_CLIENT = "sinapse_client"

#: What the environment of a request has the position by.
_POSITION = "sinapse.position"


class Sinapse:
    """The extension; `app` may be given later, to :meth:`init_app`."""

    def __init__(self, app: Flask | None = None) -> None:
        self._load: Callable[[], object] | None = None
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Read the settings of `app`; nothing is opened before it is needed.

        Raises ``ValueError`` with one line that names the setting and its fault.
        """
        options = read(app.config.get_namespace(_PREFIX, lowercase=False), _FORM)
        options.publisher().close()  # The environment may have faults as well.
        state = _State(options)
        app.extensions[_NAME] = state
        app.jinja_env.globals["sinapse_connection"] = self.element
        app.jinja_env.globals["sinapse_stream_url"] = self.stream_url
        app.jinja_env.globals["sinapse_client"] = self.client_url
        app.add_url_rule(_CLIENT_PATH, _CLIENT, client_view)
        app.cli.add_command(_commands)
        _last["state"] = state
        defaults.configure(_publisher)
        if options.autostart:
            _start_daemon(app, options)

    def subject_loader(self, load: L) -> L:
        """Use `load` to find a request's user: an object with an id, the id of a user, or None."""
        self._load = load
        return load

    @property
    def publisher(self) -> Publisher:
        """The publisher of the current application."""
        return defaults.default_of(_publisher)

    def publish(
        self,
        channel: ChannelLike,
        message: object,
        event: str | None = None,
        retain: float | None = None,
        message_id: str | None = None,
        *,
        replay: Replay | None = None,
        retain_messages: int | None = None,
        but: str | None = None,
    ) -> Published:
        """Send `message` to all who may listen: :meth:`Publisher.publish`."""
        return self.publisher.publish(
            channel,
            message,
            event,
            retain,
            message_id,
            replay=replay,
            retain_messages=retain_messages,
            but=but,
        )

    def with_position(self, view: V) -> V:
        """Return `view`, before which the position of its page is taken.

        :meth:`element` carries it, and the page connects with it as last event ID: so what is
        published after the queries of the view, and before the stream opens, is not missing. It
        stands directly below the route. While Redis is away, the page is shown, and is told
        ``reset`` when its stream opens.
        """

        @wraps(view)
        def call_view(*values: Any, **options: Any) -> Any:
            self._take_position()
            return current_app.ensure_sync(view)(*values, **options)

        return cast(V, call_view)

    def _take_position(self) -> None:
        if _position() is None:  # The first one is the right one.
            request.environ[_POSITION] = page.position(self.publisher)

    def connection(self, subject: object = None) -> page.Connection:
        """Return what the page of `subject`, or of the request's user, needs to open its stream.

        With the position, if the view has taken one. Where Flask's session has kept something, as
        it has for a user who has logged in, the token for the user of the loader is that of this
        device, and is kept there. For anybody else it is the current one of the subject.
        """
        user = self._user()
        is_user = subject is None or (user is not None and page.named(user) == page.named(subject))
        subject = user if is_user else subject
        device = _device() if is_user else None
        return page.connection(_state().options, subject, self.publisher, _position(), device)

    def element(self, subject: object = None) -> Markup:
        """Return the same for a template, as data in a ``script`` element.

        While Redis is away there is no token in it: the page is shown without push.
        """
        return Markup(page.element(self._rendered(subject)))  # noqa: S704  # It is escaped.

    def stream_url(self, subject: object = None) -> str | None:
        """Return the URL of the stream for a template that has it in an attribute.

        None if there is no token: the page is shown without push.
        """
        return page.stream_url(self._rendered(subject))

    def _rendered(self, subject: object) -> page.Connection:
        try:
            return self.connection(subject)
        except page.NO_TOKEN as error:
            return page.without_push(_state().options, error, _position())

    def client_url(self) -> str:
        """Return the URL of the JavaScript client, a module, which the application serves.

        ::

            <script type="module">
              import { connect } from "{{ sinapse_client() }}";
        """
        return url_for(_CLIENT)

    def token_view(self) -> tuple[Response, int] | Response:
        """Answer with the same as JSON, and with the position of now.

        That is for a page that loads its state after this answer. 401 without a user, 503 while
        Redis is away, 409 if the token is none of a device, and tokens are hashed.
        """
        self._take_position()
        try:
            content = self.connection()
        except BrokerUnavailable:
            answer = jsonify(error="Redis does not answer.")
            answer.status_code = 503
            answer.headers["Retry-After"] = "5"
        except TokenIsHashed:
            answer = jsonify(error=page.HASHED)
            answer.status_code = 409
        else:
            known = content["token"] is not None
            answer = jsonify(content) if known else jsonify(error="You are not signed in.")
            answer.status_code = 200 if known else 401
        answer.headers["Cache-Control"] = "no-store"
        answer.vary.add("Cookie")
        return answer

    def log_out(self) -> bool:
        """End the session of this device, and its streams; return whether there was one.

        To be called before Flask's session is cleared, which knows it. A failure of Redis is only
        logged: it must not prevent a log-out.
        """
        device = _device()
        try:
            return device is not None and ask(device.end(), self.publisher.sessions)
        except BrokerUnavailable as error:
            _log.error("The session of a user who logged out is not ended: %s", error)
            return False

    def end_other_sessions(self) -> int:
        """End the sessions of the request's user on all other devices; return how many ended.

        For a new password. Those of nobody are none. Raises
        :class:`~sinapse.errors.BrokerUnavailable`.
        """
        user, device = self._user(), _device()
        if user is None:
            return 0
        subject = page.named(user).key
        if device is None:
            return self.publisher.sessions.end_all(subject)
        return ask(device.end_others(subject), self.publisher.sessions)

    def _user(self) -> object:
        return None if self._load is None else self._load()


class _State:
    """What an application has of the extension."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.publisher: defaults.Once[Publisher] = defaults.Once(options.publisher)


#: The state of the application that was initialised last.
_last: dict[str, _State] = {}


def _state() -> _State:
    own = current_app.extensions.get(_NAME) if has_app_context() else None
    return own or _last["state"]


def _position() -> str | None:
    return request.environ.get(_POSITION) if has_request_context() else None


def _device() -> Device | None:
    """Return the device of the request; None if nothing is kept for it, or nothing can be."""
    if not has_request_context() or not session:
        return None
    return Device(session, request.headers.get("User-Agent"))


def client_view() -> Response:
    """Answer with the JavaScript client; the extension has a route for it.

    An application without the extension may have one, too::

        app.add_url_rule("/sinapse.js", view_func=client_view)
    """
    return send_from_directory(script.FOLDER, script.NAME, mimetype=script.TYPE)


def _publisher() -> Publisher:
    return _state().publisher()


def _start_daemon(app: Flask, options: Options) -> None:
    """Start the daemon with a development server; another one refuses with its first request."""
    # Nobody else needs it, and what it needs.
    from sinapse.publisher.frameworks import development  # noqa: PLC0415

    context = click.get_current_context(silent=True)
    is_run = context is not None and context.command is run_command
    # Without debug it may be the server of a container.
    process = development.owner(is_server=is_run and get_debug_flag())
    if process is None:
        request_started.connect(_refuse, app)
    else:
        development.start(options, _FORM, process)


def _refuse(app: Flask, **_: Any) -> None:
    request_started.disconnect(_refuse, app)
    if not app.testing:
        from sinapse.publisher.frameworks import development  # noqa: PLC0415

        development.refuse(_FORM("AUTOSTART"))


_commands = AppGroup(_NAME, help="Push messages to browsers.")


@_commands.command("publish")
@click.argument("channel")
@click.argument("message")
@click.option("--event", help="Event type.")
@click.option("--retain", type=float, metavar="SECONDS")
@click.option("--replay", type=read_replay, metavar="N|all")
@click.option("--retain-messages", type=int, metavar="N")
def _publish(channel: str, message: str, **options: Any) -> None:
    """Publish MESSAGE to CHANNEL."""
    try:
        nodes = defaults.default().publish(channel, message, **options)
    except (SinapseError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    heard = "There is no listener now." if not nodes else f"{nodes} daemon(s) heard it."
    click.echo(heard, err=True)


@_commands.command("token")
@click.argument("subject")
@click.option("--kind", default="User", show_default=True, help="Name of the subject's class.")
@click.option("--new", is_flag=True, help="Replace it: its streams end.")
@click.option("--expires-in", type=float, metavar="SECONDS")
def _token(subject: str, kind: str, new: bool, expires_in: float | None) -> None:
    """Show the token of the subject with the id SUBJECT; make one if there is none."""
    tokens = defaults.default().tokens
    try:
        token = (tokens.generate if new else tokens.obtain)(subject, kind, expires_in)
    except (SinapseError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(token)
