"""``{% load sinapse %}``."""

from django import template
from django.template.context import RequestContext
from django.utils.html import json_script
from django.utils.safestring import SafeString

from sinapse.publisher.django import configuration
from sinapse.publisher.django.position import position_of
from sinapse.publisher.django.views import connection_of
from sinapse.publisher.frameworks.page import ELEMENT_ID, NO_TOKEN, without_push

register: template.Library = template.Library()


@register.simple_tag(takes_context=True)
def sinapse_connection(context: RequestContext, element_id: str = ELEMENT_ID) -> SafeString:
    """Render what the page needs to open its stream, as data in an element.

    With the position, if the view has taken one. For ``request.user``; needs the context processor
    for ``request`` or that for ``user``. While Redis is away there is no token in it: the page is
    shown without push.
    """
    user = context.get("user") or context["request"].user
    position = position_of(context.get("request") or getattr(context, "request", None))
    try:
        content = connection_of(user, position)
    except NO_TOKEN as error:
        content = without_push(configuration.read(), error, position)
    return json_script(content, element_id)
