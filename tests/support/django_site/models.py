from __future__ import annotations

from django.contrib.auth.models import User
from django.db import models

from sinapse.publisher.django import Group, Publishable, Subject


class Room(Publishable, models.Model):
    title = models.CharField(max_length=80)


class QuietRoom(Room):
    sinapse_retain = 0

    class Meta:
        proxy = True


class Comment(models.Model):
    room = models.ForeignKey(Room, on_delete=models.CASCADE)
    text = models.TextField()
    at = models.DateTimeField()
    secret = models.TextField(default="not for everybody")


class Guide(User):
    """A user with a table of its own for more."""

    area = models.CharField(max_length=80)


class Team(Group, Subject, Publishable, models.Model):
    """It is all that a model can be."""

    name = models.CharField(max_length=80)


class Device(Subject, models.Model):
    name = models.CharField(max_length=80)
