from __future__ import annotations

from django.db import models

from sinapse.publisher.django import Publishable, Subject


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


class Device(Subject, models.Model):
    name = models.CharField(max_length=80)
