"""What a page needs to open its stream: the URL of the daemon, a token, and its position."""

import json
import logging
from typing import NamedTuple, TypedDict
from urllib.parse import urlencode
from uuid import UUID

from sinapse.errors import BrokerUnavailable, TokenIsHashed
from sinapse.protocol.ids import UNKNOWN
from sinapse.publisher.client import Publisher
from sinapse.publisher.defaults import default
from sinapse.publisher.frameworks.device import Device, ask
from sinapse.publisher.frameworks.options import Options
from sinapse.publisher.operations.identity import SubjectId, given_id, identifier, kind_of
from sinapse.publisher.operations.tokens import USER

_log = logging.getLogger(__name__)

#: Of the element in a page, for ``document.getElementById``.
ELEMENT_ID = "sinapse-connection"

#: Why there may be no token for somebody who could have one.
NO_TOKEN = (BrokerUnavailable, TokenIsHashed)

#: What a view answers, with a 409, if it has no token to return: this page cannot have push.
HASHED = "Tokens are hashed: only the hash of the current one is known."


class Connection(TypedDict):
    """``url``, ``token``, the seconds that it is valid at least, and the ``position`` of the page.

    Token and seconds are None for a visitor, and in a page that goes without push; the position is
    None if none was taken.
    """

    url: str
    token: str | None
    expires_in: float | None
    position: str | None


class Named(NamedTuple):
    """A subject by its id and its kind, whatever becomes of the object that stands for it."""

    sinapse_id: SubjectId
    sinapse_kind: str = USER

    @property
    def key(self) -> str:
        """The id as it is in Redis, where sessions and lists go by it alone."""
        return given_id(self.sinapse_id)


def named(subject: object) -> Named:
    """Return the names of an object, or of a user whose id is given."""
    if isinstance(subject, str | int | UUID):
        return Named(subject)
    return Named(identifier(subject), kind_of(subject))


def position(publisher: Publisher) -> str:
    """Return the position of a page, which is taken before the state of the page is read.

    While Redis is away, it is :func:`no_position`.
    """
    try:
        return publisher.position()
    except BrokerUnavailable as error:
        return no_position(error)


def no_position(reason: BrokerUnavailable) -> str:
    """Return the position of a page for which Redis gave none; `reason` is logged.

    No Redis ever gave that id. So when the stream of the page opens later, the page is told
    ``reset``, and loads its state again: it is not known what was published in between.
    """
    _log.warning("a page has no position: %s", reason)
    return str(UNKNOWN)


def connection(
    options: Options,
    subject: object | None,
    publisher: Publisher | None = None,
    position: str | None = None,
    device: Device | None = None,
) -> Connection:
    """Return what the page of `subject` needs; None is a visitor, who has no token.

    With a `device`, the token is that of its session, which all its pages share. Without one it is
    the current token of the subject. It lives for ``TOKEN_LIFETIME`` seconds at least, and pages
    that are open keep their streams. `publisher` is the default one if none is given; `position` is
    that of the page, if one was taken.
    Raises :class:`~sinapse.errors.BrokerUnavailable`, and :class:`~sinapse.errors.TokenIsHashed`
    where there is no device, and only the hash of the current token is known.
    """
    if subject is None:
        return described(options, None, position)
    publisher, names = publisher or default(), named(subject)
    if device is not None:
        token = ask(device.token(names.key, options.token_lifetime), publisher.sessions)
    else:
        token = publisher.tokens.obtain(*names, options.token_lifetime)
    return described(options, token, position)


def described(options: Options, token: str | None, position: str | None) -> Connection:
    """Return the connection of somebody who has `token`, in a page with that `position`."""
    lifetime = None if token is None else options.token_lifetime
    return {"url": options.url, "token": token, "expires_in": lifetime, "position": position}


def without_push(options: Options, reason: Exception, position: str | None) -> Connection:
    """Return the connection of a page that is rendered while there is no token to be had.

    A page is more than what is pushed to it: it is shown, and asks the view for a token later.
    `reason` is one of :data:`NO_TOKEN`, and is logged.
    """
    _log.warning("a page goes without push: %s", reason)
    return described(options, None, position)


def stream_url(content: Connection) -> str | None:
    """Return the URL of the stream of a page, for an attribute; None if it goes without push.

    With the token and the position in its query: an EventSource needs nothing else.
    """
    if content["token"] is None:
        return None
    query = {"access_token": content["token"], "lastEventId": content["position"]}
    known = {name: value for name, value in query.items() if value is not None}
    return f"{content['url']}?{urlencode(known)}"


def element(content: Connection) -> str:
    """Return it as data in a ``script`` element, which no policy for scripts forbids.

    That is no script (WHATWG HTML §4.12.1, "data block")::

        const connection = JSON.parse(document.getElementById("sinapse-connection").textContent);
    """
    text = json.dumps(content).translate(_HTML)
    return f'<script type="application/json" id="{ELEMENT_ID}">{text}</script>'


# JSON needs none of them outside of strings.
_HTML = {ord(character): f"\\u{ord(character):04x}" for character in "<>&"}
