"""``path("sinapse/", include("sinapse.publisher.django.urls"))``."""

from django.urls import path

from sinapse.publisher.django.views import token

app_name = "sinapse"

urlpatterns = [path("token/", token, name="token")]
