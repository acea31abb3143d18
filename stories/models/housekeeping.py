"""Counters and signs of life. Counters are changed by conditional updates only (SQLite has no row locks)."""

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _


class SpendDay(models.Model):
    """What this site spent and reserved on one day (local time), whole micro-USD."""

    day = models.DateField(_("日期"), primary_key=True)
    spent = models.BigIntegerField(_("已花费"), default=0)
    reserved = models.BigIntegerField(_("已预留"), default=0)

    class Meta:
        verbose_name = _("每日花费")
        verbose_name_plural = _("每日花费")
        ordering = ["-day"]
        constraints = [
            models.CheckConstraint(
                condition=Q(spent__gte=0) & Q(reserved__gte=0), name="spend_day_not_negative"
            )
        ]

    def __str__(self) -> str:
        return f"{self.day}"


class ReaderDay(models.Model):
    """How many stories one reader, or one address, asked for on one day."""

    day = models.DateField()
    who = models.CharField(max_length=80)
    stories = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["day", "who"], name="reader_day_once")]

    def __str__(self) -> str:
        return f"{self.who} {self.day}"


class Heartbeat(models.Model):
    """A process that answers; `make run` and `/health/ready` look here."""

    process = models.CharField(max_length=40, primary_key=True)
    beat_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.process
