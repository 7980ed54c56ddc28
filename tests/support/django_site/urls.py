from __future__ import annotations

from asgiref.sync import sync_to_async
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView, LogoutView, PasswordChangeView
from django.http import HttpRequest, HttpResponse
from django.template import RequestContext, Template, engines
from django.urls import include, path
from django.views import View

from sinapse.publisher.django import PositionMixin, publish, with_position
from sinapse.publisher.django.admin import SessionsMixin, revoke_tokens
from tests.support.django_site.models import Room


class Users(SessionsMixin, UserAdmin):  # type: ignore[type-arg]  # Only the stubs have it.
    actions = (revoke_tokens,)


site = admin.AdminSite()
site.register(User, Users)

TEMPLATE = Template("{% load sinapse %}{% sinapse_connection %}")
PAGE = engines["django"].from_string("{% load sinapse %}{% sinapse_connection %}")


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(PAGE.render({}, request))


def about(request: HttpRequest, name: str) -> HttpResponse:
    """Show the page of a user to another one, as a ``DetailView`` of users does."""
    return HttpResponse(PAGE.render({"user": User.objects.get(username=name)}, request))


def _queried(request: HttpRequest) -> HttpResponse:
    """Show a page after something was published in the midst of its view."""
    publish("news", "published by the queries")
    return page(request)


class Positioned(PositionMixin, View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return _queried(request)


class PositionedLater(View):
    async def get(self, request: HttpRequest) -> HttpResponse:
        return await sync_to_async(_queried)(request)


class AwaitedPositioned(PositionMixin, PositionedLater):
    pass


@with_position
async def awaited(request: HttpRequest) -> HttpResponse:
    return await sync_to_async(_queried)(request)


@with_position
def user_only(request: HttpRequest) -> HttpResponse:
    context = RequestContext(request, {"user": request.user})
    return HttpResponse(TEMPLATE.render(context))


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
    path("plain", lambda _: HttpResponse()),
    path("about/<name>", about),
    path("login", LoginView.as_view(template_name="admin/login.html")),
    path("logout", LogoutView.as_view(next_page="/page")),
    path("password", PasswordChangeView.as_view(success_url="/page")),
    path("positioned/decorated", with_position(_queried)),
    path("positioned/twice", with_position(with_position(_queried))),
    path("positioned/awaited", awaited),
    path("positioned/class", Positioned.as_view()),
    path("positioned/awaited-class", AwaitedPositioned.as_view()),
    path("positioned/shown", with_position(page)),
    path("positioned/user-only", user_only),
    path("say", say),
    path("asay", asay),
]
