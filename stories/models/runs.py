"""One order for many stories."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from sentences.fields import SentenceField


class Run(models.Model):
    """Combos × repeats, written by one model with one template, within one budget (micro-USD; null: none)."""

    class State(models.TextChoices):
        DRAFT = "draft", _("草稿")
        RUNNING = "running", _("进行中")
        PAUSED = "paused", _("已暂停")
        DONE = "done", _("已完成")
        CANCELLED = "cancelled", _("已取消")

    class Cover(models.TextChoices):
        FULL = "full", _("全部配方")
        PAIRWISE = "pairwise", _("两两覆盖")
        SAMPLE = "sample", _("五篇样稿")

    template = models.ForeignKey("stories.Template", verbose_name=_("提示词模板"), on_delete=models.PROTECT)
    language_model = models.ForeignKey(
        "stories.LanguageModel", verbose_name=_("模型"), on_delete=models.PROTECT
    )
    dynasties = models.JSONField(_("朝代"))
    super_powers = models.JSONField(_("超能力"))
    story_types = models.JSONField(_("战斗"))
    is_batch = models.BooleanField(_("半价批量"), default=False)
    repeat = models.PositiveIntegerField(_("每个配方的篇数"), default=1)
    target = models.PositiveIntegerField(_("每格的目标"), null=True, blank=True)
    cover = models.CharField(_("覆盖"), max_length=10, choices=Cover.choices, default=Cover.FULL)
    excluded = models.JSONField(_("排除的配方"), default=list, blank=True)
    temperature = models.FloatField(_("温度"), default=0.5)
    state = models.CharField(_("状态"), max_length=10, choices=State.choices, default=State.DRAFT)
    pause_reason = SentenceField(_("暂停原因"), blank=True)
    failures_in_row = models.PositiveIntegerField(_("连续失败"), default=0)
    empty_orders = models.PositiveIntegerField(default=0, editable=False)
    next_order_at = models.DateTimeField(null=True, blank=True, editable=False)
    estimate = models.BigIntegerField(_("预计费用上限"), null=True, blank=True)
    budget = models.BigIntegerField(_("预算"), null=True, blank=True)
    reserved = models.BigIntegerField(_("已预留"), default=0)
    spent = models.BigIntegerField(_("已花费"), default=0)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("下单人"), null=True, blank=True, on_delete=models.SET_NULL
    )
    created_at = models.DateTimeField(_("创建时间"), auto_now_add=True)
    finished_at = models.DateTimeField(_("完成时间"), null=True, blank=True)

    class Meta:
        verbose_name = _("生成批次")
        verbose_name_plural = _("生成批次")
        ordering = ["-pk"]
        permissions = [("control_run", "Can start, pause, resume and cancel a run")]

    def __str__(self) -> str:
        return f"#{self.pk}"
