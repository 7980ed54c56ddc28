"""An action for the administration of users: ``actions = [revoke_tokens]`` in a ``ModelAdmin``."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import ngettext

from sinapse.errors import BrokerUnavailable
from sinapse.publisher.django.names import subject


@admin.action(description="Revoke push tokens", permissions=["change"])
def revoke_tokens(
    model_admin: "admin.ModelAdmin[Any]", request: HttpRequest, selected: QuerySet[Any]
) -> None:
    """End the streams of the selected users; a page gets a new token if its user may have one."""
    revoked = 0
    try:
        for instance in selected.iterator():
            revoked += subject(instance).auth.clear()
    except BrokerUnavailable as error:
        model_admin.message_user(request, f"Not all are revoked: {error}", messages.ERROR)
    told = ngettext("%d token was revoked.", "%d tokens were revoked.", revoked) % revoked
    model_admin.message_user(request, told, messages.SUCCESS)
