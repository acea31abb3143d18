"""Who decided what about money or the serving model: rows that are written once and never changed."""

from typing import Any, NoReturn

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


class AuditEntryQuerySet(models.QuerySet["AuditEntry"]):
    def update(self, **_changes: object) -> NoReturn:
        raise TypeError("an audit entry is never changed")

    def delete(self) -> NoReturn:
        raise TypeError("an audit entry is never deleted")


class AuditEntry(models.Model):
    """One decision of a person; `actor` names them, also where there is no account (`by` null: a terminal).

    `subject_kind` is the row's label ("stories.attempt"), `before` and `after` its values; money is micro-USD.
    """

    class Action(models.TextChoices):
        PRICE_CORRECTED = "price_corrected", _("更正费用")
        OUTCOME_RESOLVED = "outcome_resolved", _("核对结果不明的调用")
        MODEL_PROMOTED = "model_promoted", _("启用模型")
        MODEL_REPRICED = "model_repriced", _("改动价格")
        MODEL_DIALECT_CHANGED = "model_dialect", _("改动接口方言")
        BATCH_SENT_AGAIN = "batch_sent_again", _("重新下单半价批量")
        BATCH_GIVEN_UP = "batch_given_up", _("放弃半价批量订单")
        ACCOUNT_PAID = "account_paid", _("已充值，再试")
        JOB_CANCELLED = "job_cancelled", _("取消微调任务")
        JOB_SENT_AGAIN = "job_sent_again", _("重新发送微调任务")
        JOB_ABANDONED = "job_abandoned", _("放弃微调任务")
        JOB_DECIDED = "job_decided", _("决定微调任务的结果")

    action = models.CharField(_("操作"), max_length=24, choices=Action.choices)
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("账号"), null=True, blank=True, on_delete=models.PROTECT
    )
    actor = models.CharField(_("谁"), max_length=200)
    subject_kind = models.CharField(max_length=60)
    subject_id = models.CharField(max_length=60)
    subject_label = models.CharField(_("对象"), max_length=300)
    before = models.JSONField()
    after = models.JSONField()
    reason = models.TextField(_("理由"), blank=True)
    created_at = models.DateTimeField(_("时间"), auto_now_add=True)

    objects = AuditEntryQuerySet.as_manager()

    class Meta:
        verbose_name = _("操作记录")
        verbose_name_plural = _("操作记录")
        ordering = ["-pk"]
        indexes = [models.Index(fields=["subject_kind", "subject_id"], name="audit_subject")]

    def __str__(self) -> str:
        return f"{self.get_action_display()} · {self.subject_label}"

    # Any: Django's own signature.
    def save(self, *args: object, **kwargs: Any) -> None:
        """Writes the row, once."""
        if not self._state.adding:
            raise TypeError("an audit entry is never changed")
        super().save(*args, **kwargs)

    # Any: Django's own signature.
    def delete(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise TypeError("an audit entry is never deleted")
