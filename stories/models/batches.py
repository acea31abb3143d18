"""One order at a provider's Batch API: many stories of a run in one file, at half the price."""

import uuid
from typing import Self

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from sentences.fields import SentenceField
from stories.models.leased import LeasedQuerySet


class BatchOrderQuerySet(LeasedQuerySet["BatchOrder"]):
    def unfinished(self) -> Self:
        return self.exclude(state=BatchOrder.State.ENDED)


class BatchOrder(models.Model):
    """Its stories are those of its attempts. `key` stands in the remote batch's metadata."""

    class State(models.TextChoices):
        GATHERING = "gathering", _("收集中")
        UPLOADING = "uploading", _("上传中")
        UPLOADED = "uploaded", _("已上传")
        CREATING = "creating", _("下单中")
        CREATE_UNKNOWN = "create_unknown", _("下单结果不明")
        CREATED = "created", _("对方处理中")
        ENDED = "ended", _("已结束")

    key = models.UUIDField(default=uuid.uuid4, editable=False, unique=True)
    run = models.ForeignKey(
        "stories.Run", verbose_name=_("批次"), on_delete=models.PROTECT, related_name="batch_orders"
    )
    state = models.CharField(_("状态"), max_length=16, choices=State.choices, default=State.GATHERING)
    input_file_id = models.CharField(_("输入文件"), max_length=100, blank=True)
    remote_id = models.CharField(_("对方的编号"), max_length=100, blank=True)
    remote_status = models.CharField(_("对方的状态"), max_length=40, blank=True)
    error = SentenceField(_("出错说明"), blank=True)
    tries = models.PositiveIntegerField(default=0, editable=False)
    fence = models.PositiveIntegerField(default=0, editable=False)
    lease_until = models.DateTimeField(null=True, blank=True, editable=False)
    next_poll_at = models.DateTimeField(default=timezone.now, editable=False)
    created_at = models.DateTimeField(_("创建时间"), auto_now_add=True)
    finished_at = models.DateTimeField(_("完成时间"), null=True, blank=True)

    objects = BatchOrderQuerySet.as_manager()

    class Meta:
        verbose_name = _("半价批量订单")
        verbose_name_plural = _("半价批量订单")
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["run"], condition=Q(state="gathering"), name="batch_one_gathering_per_run"
            )
        ]

    def __str__(self) -> str:
        return f"{self.run} · {self.pk}"
