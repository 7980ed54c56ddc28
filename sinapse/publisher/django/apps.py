"""The app: what happens when Django starts."""

from typing import Any

from django.apps import AppConfig
from django.core import checks
from django.core.signals import setting_changed

from sinapse.publisher import defaults
from sinapse.publisher.django import capturing, configuration, development, revocation
from sinapse.publisher.django.checks import (
    check_autostart,
    check_deployment,
    check_mixins,
    check_outbox,
    check_redis,
    check_redis_of_deployment,
    check_settings,
)


class SinapseConfig(AppConfig):
    """``sinapse.publisher.django``."""

    name = "sinapse.publisher.django"
    label = "sinapse"
    verbose_name: str = "Sinapse"
    default_auto_field: str = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Have publishers made of the settings; nothing is read or opened before it is needed.

        But for ``AUTOSTART``: what starts with a development server starts now.
        """
        defaults.configure(configuration.publisher)
        setting_changed.connect(self.changed, dispatch_uid="sinapse")
        revocation.connect()
        capturing.connect()
        checks.register(check_settings, "sinapse")
        checks.register(check_mixins, "sinapse")
        checks.register(check_deployment, "sinapse", deploy=True)
        checks.register(check_autostart, "sinapse", deploy=True)
        checks.register(check_redis_of_deployment, "sinapse", deploy=True)
        checks.register(check_redis, checks.Tags.database)
        checks.register(check_outbox, checks.Tags.database)
        development.start()

    def changed(self, *, setting: str, **_: Any) -> None:
        """Follow ``override_settings`` of Django's tests."""
        if setting == configuration.SETTING:
            configuration.forget()
            revocation.connect()
