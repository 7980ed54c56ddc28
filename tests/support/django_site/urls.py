from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.urls import include, path

from sinapse.publisher.django import publish
from sinapse.publisher.django.admin import revoke_tokens
from tests.support.django_site.models import Room


class Users(UserAdmin):  # type: ignore[type-arg]  # Only the stubs have an argument.
    actions = (revoke_tokens,)


site = admin.AdminSite()
site.register(User, Users)

PAGE = engines["django"].from_string("{% load sinapse %}{% sinapse_connection %}")


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(PAGE.render({}, request))


def say(request: HttpRequest) -> HttpResponse:
    publish("news", request.body)
    return HttpResponse()


async def asay(request: HttpRequest) -> HttpResponse:
    room = await Room.objects.acreate(title="async")
    nodes = await room.apublish(request.body)
    return HttpResponse(f"{room.sinapse_channel} {nodes}")


urlpatterns = [
    path("admin/", site.urls),
    path("push/", include("sinapse.publisher.django.urls")),
    path("page", page),
    path("say", say),
    path("asay", asay),
]
