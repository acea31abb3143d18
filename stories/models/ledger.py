"""The money ledger: one row per paid call, written before the call is made."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class Attempt(models.Model):
    """One call for one story. Money is micro-USD; `unknown` counts as spent, at its reservation."""

    class State(models.TextChoices):
        SUBMITTING = "submitting", _("已提交")
        STREAMING = "streaming", _("正在接收")
        COMPLETE = "complete", _("完成")
        INTERRUPTED = "interrupted", _("中断")
        REFUSED = "refused", _("被拒绝")
        UNKNOWN = "unknown", _("结果不明")

    OPEN = (State.SUBMITTING, State.STREAMING)

    story = models.ForeignKey(
        "stories.Story", verbose_name=_("故事"), on_delete=models.CASCADE, related_name="attempts"
    )
    language_model = models.ForeignKey(
        "stories.LanguageModel", verbose_name=_("模型"), on_delete=models.PROTECT
    )
    batch = models.ForeignKey(
        "stories.BatchOrder",
        verbose_name=_("半价批量订单"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="attempts",
    )
    fence = models.PositiveIntegerField(editable=False)
    state = models.CharField(_("状态"), max_length=12, choices=State.choices, default=State.SUBMITTING)
    day = models.DateField(_("日期"), editable=False)
    reserved = models.BigIntegerField(_("预留"), default=0)
    price = models.BigIntegerField(_("费用"), null=True, blank=True)
    prompt_tokens = models.PositiveIntegerField(_("输入词元"), null=True, blank=True)
    completion_tokens = models.PositiveIntegerField(_("输出词元"), null=True, blank=True)
    finish_reason = models.CharField(_("结束标记"), max_length=40, blank=True)
    error = models.TextField(_("出错说明"), blank=True)
    started_at = models.DateTimeField(_("开始时间"), auto_now_add=True)
    first_text_at = models.DateTimeField(_("首字时间"), null=True, blank=True)
    ended_at = models.DateTimeField(_("结束时间"), null=True, blank=True)

    class Meta:
        verbose_name = _("调用")
        verbose_name_plural = _("调用")
        ordering = ["-pk"]
        constraints = [models.UniqueConstraint(fields=["story", "fence"], name="attempt_once_per_claim")]

    def __str__(self) -> str:
        return f"{self.story_id} · {self.fence}"
