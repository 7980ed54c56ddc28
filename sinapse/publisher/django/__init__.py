"""Sinapse for Django: an app that keeps Django's conventions.

Add it to ``INSTALLED_APPS``. If the environment does not have the URLs, put them in
``settings.py``::

    INSTALLED_APPS = [..., "sinapse.publisher.django"]
    SINAPSE = {"REDIS_URL": "redis://localhost:6379/0", "URL": "https://push.example/"}

In models and views::

    from sinapse.publisher.django import Publishable, Subject, publish, subject

    class User(Subject, AbstractUser): ...

    class Room(Publishable, Model): ...

    class Team(Group, Model): ...

    user.sinapse.add_channel(room)
    user.sinapse.add_group(team)
    team.sinapse_channels.add(room)                     # for all members
    room.publish({"text": "hello"}, event="message")    # once the transaction is committed
    user.sinapse.publish("for you alone")               # so is this
    subject(request.user).add_channel("news")           # a user model without the mixin
    publish("news", "hello")
    token_response("visitor")             # what a view answers to the page of any subject

    @with_position                        # nothing is missing between the page and its stream
    def page(request): ...

In templates ``{% load sinapse %}{% sinapse_connection %}``, in ``urls.py``
``include("sinapse.publisher.django.urls")``. Management commands: ``sinapse_token``,
``sinapse_publish``, ``sinapse_listen``, ``sinapse_relay``. The rest is in ``docs/howto-django.md``.

``apps``           what happens when Django starts
``configuration``  ``settings.SINAPSE``
``checks``         system checks
``names``          names of models
``mixins``         publishing from models
``signals``        publishing what is saved and deleted
``commit``         publishing when a transaction is committed
``outbox``         messages that are rows of their transaction until Redis has them
``models``         the model of these rows
``migrations``     their table
``tasks``          a task for Celery that sends what waits
``device``         the device that a request comes from
``revocation``     sessions and tokens that end: with a log-out, a new password, or their user
``middleware``     it keeps the session of the device on which the password is changed
``position``       the position of a page
``development``    the daemon that starts with ``runserver``
``capturing``      what tests publish without capturing it
``views``          the view that a page asks for its token
``urls``           the URL of that view
``admin``          for the administration
``management``     what ``manage.py`` can do
``templatetags``   template tags
"""

from sinapse.publisher.django.commit import apublish, publish
from sinapse.publisher.django.mixins import Group, Publishable, Subject, subject
from sinapse.publisher.django.position import PositionMixin, position_of, with_position
from sinapse.publisher.django.signals import publish_on_delete, publish_on_save
from sinapse.publisher.django.views import token_response

__all__ = [
    "Group",
    "PositionMixin",
    "Publishable",
    "Subject",
    "apublish",
    "position_of",
    "publish",
    "publish_on_delete",
    "publish_on_save",
    "subject",
    "token_response",
    "with_position",
]
