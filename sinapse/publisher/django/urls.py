"""``path("sinapse/", include("sinapse.publisher.django.urls"))``."""

from django.urls import URLPattern, path

from sinapse.publisher.django.views import token

app_name = "sinapse"

urlpatterns: list[URLPattern] = [path("token/", token, name="token")]
