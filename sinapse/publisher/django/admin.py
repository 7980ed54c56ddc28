"""For the administration: sessions of users, an action that ends them, and what waits.

::

    class Users(SessionsMixin, UserAdmin):
        actions = [revoke_tokens]
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from django.contrib import admin, messages
from django.contrib.admin.utils import display_for_value, flatten_fieldsets
from django.db.models import Model, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import ngettext

from sinapse.errors import BrokerUnavailable
from sinapse.publisher.django import configuration
from sinapse.publisher.django.mixins import subject
from sinapse.publisher.django.models import OutboxMessage
from sinapse.publisher.django.revocation import revoke_all

# It has parameters in stubs only.
if TYPE_CHECKING:
    _OfOutbox: TypeAlias = admin.ModelAdmin[OutboxMessage]
else:
    _OfOutbox = admin.ModelAdmin

#: The boxes in the form that are ticked for sessions to end.
_BOX = "_sinapse_end"


@admin.action(description="Revoke push tokens", permissions=["change"])
def revoke_tokens(
    model_admin: "admin.ModelAdmin[Any]", request: HttpRequest, selected: QuerySet[Any]
) -> None:
    """End the streams of the selected users; a page gets a new token if its user may have one."""
    revoked = 0
    try:
        for instance in selected.iterator():
            revoked += revoke_all(subject(instance))
    except BrokerUnavailable as error:
        model_admin.message_user(request, f"Not all are revoked: {error}", messages.ERROR)
    told = ngettext("%d token was revoked.", "%d tokens were revoked.", revoked) % revoked
    model_admin.message_user(request, told, messages.SUCCESS)


class SessionsMixin:
    """A ``ModelAdmin`` of subjects whose form shows their sessions, and ends those that are ticked.

    It stands before ``ModelAdmin`` among the bases. Tokens are not shown. Who may only view a user
    ends nothing.
    """

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return what those of other bases are, and the sessions of a user who is saved."""
        fields: Any = super().get_readonly_fields(request, obj)  # type: ignore[misc]
        if obj is None:
            return fields
        may_end = self.has_change_permission(request, obj)  # type: ignore[attr-defined]
        return (*fields, "push_sessions" if may_end else "push_sessions_to_view")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return those of other bases; the sessions of a user who is saved are last."""
        sets: Any = super().get_fieldsets(request, obj)  # type: ignore[misc]
        if obj is None:
            return sets
        name = self.get_readonly_fields(request, obj)[-1]
        # Where no fields are named, all that are only read are there already.
        return sets if name in flatten_fieldsets(sets) else (*sets, ("Push", {"fields": (name,)}))

    def save_model(
        self, request: HttpRequest, obj: Model, form: "ModelForm[Any]", change: bool
    ) -> None:
        """Save, and end the sessions that are ticked."""
        super().save_model(request, obj, form, change)  # type: ignore[misc]
        if change and (ticked := request.POST.getlist(_BOX)):
            self._end(request, obj, ticked)

    def _end(self, request: HttpRequest, obj: Model, ticked: Sequence[str]) -> None:
        tell: Any = self.message_user  # type: ignore[attr-defined]
        sessions = subject(obj).sessions
        try:
            ended = sum(sessions.end(each.id) for each in sessions.list() if each.id in ticked)
        except BrokerUnavailable as error:
            tell(request, f"Not all sessions have ended: {error}", messages.ERROR)
            return
        told = ngettext("%d push session was ended.", "%d push sessions were ended.", ended) % ended
        tell(request, told, messages.SUCCESS)

    @admin.display(description="Sessions")
    def push_sessions(self, obj: Model) -> SafeString | str:
        """Show the sessions of a user, each with a box to tick for its end."""
        return _table(obj, boxes=True)

    @admin.display(description="Sessions")
    def push_sessions_to_view(self, obj: Model) -> SafeString | str:
        """Show the sessions of a user."""
        return _table(obj, boxes=False)


def _table(instance: Model, *, boxes: bool) -> SafeString | str:
    try:
        sessions = subject(instance).sessions.list()
    except BrokerUnavailable as error:
        return str(error)
    if not sessions:
        return "None."
    box = f'<input type="checkbox" name="{_BOX}" value="{{}}" aria-label="End">' if boxes else ""
    row = f"<tr><td>{{}}<td>{{}}<td>{{}}<td>{{}}<td>{box}"
    rows = format_html_join(
        "",
        row,
        (
            (
                each.device or "-",
                *(_shown(when) for when in (each.opened, each.seen, each.expires)),
                each.id,
            )
            for each in sessions
        ),
    )
    head = "<th>Device<th>Opened<th>Last seen<th>Expires<th>" + ("End?" if boxes else "")
    return format_html(f"<table><thead><tr>{head}<tbody>{{}}</table>", rows)


def _shown(seconds: float | None) -> str:
    when = None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return display_for_value(when, "-")


@admin.action(description="Send again", permissions=["delete"])
def send_again(
    model_admin: "admin.ModelAdmin[Any]", request: HttpRequest, selected: QuerySet[Any]
) -> None:
    """Let messages that are set aside wait like others; the relay sends them."""
    count = selected.exclude(refused="").update(refused="")
    told = ngettext("%d message waits again.", "%d messages wait again.", count) % count
    model_admin.message_user(request, told, messages.SUCCESS)


class OutboxAdmin(_OfOutbox):
    """What waits in the outbox, and what is set aside; to delete it is to drop it."""

    list_display: tuple[str, ...] = ("id", "channel", "event", "created", "refused")
    list_filter: ClassVar[tuple[Any, ...]] = (("refused", admin.EmptyFieldListFilter), "created")
    search_fields: ClassVar[tuple[str, ...]] = ("channel", "message_id")
    actions: Sequence[Callable[..., None]] = (send_again,)
    # A count of all rows takes long where many wait.
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002
        """Return False: messages are published."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Return False: a message is as it was published."""
        return False


if configuration.has_outbox():
    admin.site.register(OutboxMessage, OutboxAdmin)
