"""A CSV file whose stories are being brought in: hidden from every query until all of them are there."""

from datetime import datetime
from typing import Any, Self

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from sentences.fields import SentenceField


class ImportedFileQuerySet(models.QuerySet["ImportedFile"]):
    def unpublished(self) -> Self:
        """Those whose stories, as far as they are staged, nobody may see."""
        return self.filter(state__in=ImportedFile.UNPUBLISHED)

    def due(self, now: datetime) -> Self:
        """Unpublished ones that nobody works on: not begun, to be removed, or their process is gone."""
        return self.unpublished().filter(Q(lease_until__isnull=True) | Q(lease_until__lt=now))


class ImportedFile(models.Model):
    """One import, all or nothing: `staged` of its `rows` are written; who writes them holds the lease.

    `file` is the upload, relative to MEDIA_ROOT, while a worker needs it; blank for one that its own process reads.
    """

    class State(models.TextChoices):
        WAITING = "waiting", _("等着导入")
        STAGING = "staging", _("正在导入")
        PUBLISHED = "published", _("已导入")
        REMOVING = "removing", _("正在撤回")
        REFUSED = "refused", _("没有收下")

    UNPUBLISHED = (State.WAITING, State.STAGING, State.REMOVING)

    name = models.CharField(_("文件名"), max_length=200)
    state = models.CharField(_("状态"), max_length=10, choices=State.choices, default=State.WAITING)
    rows = models.PositiveIntegerField(_("篇数"), null=True, blank=True)
    staged = models.PositiveIntegerField(_("已写入"), default=0)
    error = SentenceField(_("出错说明"), blank=True)
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("导入人"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
    )
    approved = models.BooleanField(_("同时采纳"), default=False)
    file = models.CharField(max_length=100, blank=True, editable=False)
    fence = models.PositiveIntegerField(default=0, editable=False)
    lease_until = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(_("创建时间"), auto_now_add=True)
    published_at = models.DateTimeField(_("完成时间"), null=True, blank=True)

    objects = ImportedFileQuerySet.as_manager()

    class Meta:
        verbose_name = _("导入的文件")
        verbose_name_plural = _("导入的文件")
        ordering = ["-pk"]
        indexes = [models.Index(fields=["state"], name="imported_file_state")]
        constraints = [
            models.CheckConstraint(
                condition=Q(state="published", published_at__isnull=False)
                | (~Q(state="published") & Q(published_at__isnull=True)),
                name="imported_file_published_at",
            ),
            models.CheckConstraint(
                condition=~Q(state="published") | Q(staged=F("rows")), name="imported_file_published_whole"
            ),
        ]

    def __str__(self) -> str:
        return self.name or f"#{self.pk}"

    @property
    def is_unfinished(self) -> bool:
        return self.state in self.UNPUBLISHED


# Any: django-stubs' generics; values of any type may come here.
class PublishedManager(models.Manager[Any]):
    """Leaves out the rows of imports that are not published: by one small list of keys, without a join."""

    # Any: django-stubs' generics; values of any type may come here.
    def get_queryset(self) -> models.QuerySet[Any]:
        return super().get_queryset().exclude(imported_file__in=ImportedFile.objects.unpublished())
