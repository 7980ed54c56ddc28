"""The URLs of a page with a state and a stream: see :mod:`tests.support.pages`."""

from __future__ import annotations

from typing import Protocol

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.template import RequestContext, Template
from django.urls import path

from sinapse.publisher.django import with_position


class Site(Protocol):
    """What is used of :class:`tests.support.pages.Site`."""

    def query(self) -> list[str]: ...
    def page(self, entries: list[str], element: str) -> str: ...
    def fetched(self) -> str: ...


#: The one whose views these are.
current: list[Site] = []

ELEMENT = Template("{% load sinapse %}{% sinapse_connection %}")


@with_position
def page(request: HttpRequest) -> HttpResponse:
    (site,) = current
    entries = site.query()
    request.user = User(pk=1, username="ada")
    return HttpResponse(site.page(entries, ELEMENT.render(RequestContext(request))))


def fetched(_: HttpRequest) -> HttpResponse:
    (site,) = current
    return HttpResponse(site.fetched(), content_type="application/json")


urlpatterns = [path("", page), path("entries", fetched)]
