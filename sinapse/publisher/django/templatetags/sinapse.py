"""``{% load sinapse %}``."""

from django import template
from django.template.context import RequestContext
from django.utils.html import json_script
from django.utils.safestring import SafeString

from sinapse.publisher.django.connection import connection_of

register = template.Library()

#: What it has in the page, for ``document.getElementById``.
ELEMENT_ID = "sinapse-connection"


@register.simple_tag(takes_context=True)
def sinapse_connection(context: RequestContext, element_id: str = ELEMENT_ID) -> SafeString:
    """Render what the page needs to open its stream, as data in a ``script`` element.

    No policy for scripts forbids it, since it is not one (WHATWG HTML §4.12.1, "data block")::

        const connection = JSON.parse(document.getElementById("sinapse-connection").textContent);

    `url` is the daemon's, `token` is null for somebody who is not logged in.
    """
    return json_script(connection_of(context["user"]), element_id)
