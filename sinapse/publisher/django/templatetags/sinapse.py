"""``{% load sinapse %}``."""

from django import template
from django.template.context import RequestContext
from django.templatetags.static import static
from django.utils.html import json_script
from django.utils.safestring import SafeString

from sinapse.publisher.django import configuration
from sinapse.publisher.django.position import position_of
from sinapse.publisher.django.views import connection_of
from sinapse.publisher.frameworks import script
from sinapse.publisher.frameworks.page import (
    ELEMENT_ID,
    NO_TOKEN,
    Connection,
    stream_url,
    without_push,
)

register: template.Library = template.Library()


@register.simple_tag(takes_context=True)
def sinapse_connection(context: RequestContext, element_id: str = ELEMENT_ID) -> SafeString:
    """Render what the page needs to open its stream, as data in an element.

    With the position, if the view has taken one. For ``request.user``, whoever is the ``user`` that
    the page is about; needs the context of a request, or ``user`` in any other. While Redis is away
    there is no token in it: the page is shown without push.
    """
    return json_script(_rendered(context), element_id)


@register.simple_tag(takes_context=True)
def sinapse_stream_url(context: RequestContext) -> str:
    """Render the URL of the stream for an attribute: ``{% sinapse_stream_url as url %}``.

    As :func:`sinapse_connection`; it is empty if there is no token.
    """
    return stream_url(_rendered(context)) or ""


@register.simple_tag
def sinapse_client() -> str:
    """Render the URL of the JavaScript client, which is one of the static files.

    ::

        <script type="module">
          import { connect } from "{% sinapse_client %}";
    """
    return static(f"sinapse/{script.NAME}")


def _rendered(context: RequestContext) -> Connection:
    request = getattr(context, "request", None) or context.get("request")
    user = context["user"] if request is None else request.user
    position = position_of(request)
    try:
        return connection_of(user, position, request)
    except NO_TOKEN as error:
        return without_push(configuration.read(), error, position)
