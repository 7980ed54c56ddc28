"""The table of the outbox.

In PostgreSQL, new rows in it wake the relay. In MySQL it takes all texts, and tells all from each
other, whatever the database has: by default that takes "news" and "News" for one channel, and some
have no emoji.
"""

from typing import Any, ClassVar

from django.db import migrations, models, router

TRIGGER = """
CREATE FUNCTION sinapse_outbox_notify() RETURNS trigger LANGUAGE plpgsql
AS $$BEGIN NOTIFY sinapse_outbox; RETURN NULL; END$$;
CREATE TRIGGER sinapse_outbox_notify AFTER INSERT ON {table}
FOR EACH STATEMENT EXECUTE FUNCTION sinapse_outbox_notify();
"""

NO_TRIGGER = """
DROP TRIGGER sinapse_outbox_notify ON {table};
DROP FUNCTION sinapse_outbox_notify();
"""

ALL_TEXTS = "ALTER TABLE {table} CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"


def _execute(vendor: str, sql: str, apps: Any, schema_editor: Any) -> None:
    connection = schema_editor.connection
    model = apps.get_model("sinapse", "OutboxMessage")
    is_allowed = router.allow_migrate_model(connection.alias, model)
    if connection.vendor == vendor and is_allowed:
        table = connection.ops.quote_name(model._meta.db_table)
        schema_editor.execute(sql.format(table=table))


def notify(apps: Any, schema_editor: Any) -> None:
    """Let each insertion say that there is something."""
    _execute("postgresql", TRIGGER, apps, schema_editor)


def forget(apps: Any, schema_editor: Any) -> None:
    """Undo that."""
    _execute("postgresql", NO_TRIGGER, apps, schema_editor)


def take_all_texts(apps: Any, schema_editor: Any) -> None:
    """Let the columns be exact."""
    _execute("mysql", ALL_TEXTS, apps, schema_editor)


class Migration(migrations.Migration):
    """The first one."""

    initial: ClassVar[bool] = True

    dependencies: ClassVar[list[Any]] = []

    operations: ClassVar[list[Any]] = [
        migrations.CreateModel(
            name="OutboxMessage",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("message_id", models.CharField(max_length=128)),
                ("channel", models.CharField(max_length=512)),
                ("message", models.TextField(blank=True)),
                ("event", models.CharField(blank=True, default="", max_length=512)),
                (
                    "retain",
                    models.BigIntegerField(help_text="Milliseconds for which Redis retains it."),
                ),
                (
                    "retain_messages",
                    models.IntegerField(help_text="How many messages its channel keeps then."),
                ),
                ("replay", models.CharField(blank=True, default="", max_length=16)),
                ("but", models.CharField(blank=True, default="", max_length=64)),
                ("created", models.DateTimeField(auto_now_add=True)),
                (
                    "refused",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="Why it can never be sent.",
                        max_length=500,
                    ),
                ),
            ],
            options={
                "verbose_name": "message that waits",
                "verbose_name_plural": "messages that wait",
                "ordering": ("id",),
                "indexes": [models.Index(fields=["channel", "id"], name="sinapse_outbox_channel")],
            },
        ),
        migrations.RunPython(notify, forget),
        # Where such a statement cannot be rolled back, it may not be in a transaction.
        migrations.RunPython(take_all_texts, migrations.RunPython.noop, atomic=False),
    ]
