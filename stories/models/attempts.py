"""The money ledger: one row per paid call, written before the call is made."""

from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from sentences.fields import SentenceField

if TYPE_CHECKING:
    from stories.models.stories import Story


class Attempt(models.Model):
    """One call for one story, or to try a model before it is put in use.

    Money is micro-USD; `unknown` counts as spent, at its reservation. `doubt` says which claim of
    the provider could not be true; staff then correct the price, which sets `corrected_at`. `is_probe`: made although
    the provider's account was known to be empty, to learn whether it still is. `cached_tokens` are a part of the
    prompt's tokens, `reasoning_tokens` one of the completion's.
    """

    class Purpose(models.TextChoices):
        STORY = "story", _("写故事")
        PROMOTION = "promotion", _("启用前试问")
        CHECK = "check", _("检查接入点")

    class State(models.TextChoices):
        SUBMITTING = "submitting", _("已提交")
        STREAMING = "streaming", _("正在接收")
        COMPLETE = "complete", _("完成")
        INTERRUPTED = "interrupted", _("中断")
        REFUSED = "refused", _("被拒绝")
        UNKNOWN = "unknown", _("结果不明")

    OPEN = (State.SUBMITTING, State.STREAMING)

    purpose = models.CharField(_("用途"), max_length=10, choices=Purpose.choices, default=Purpose.STORY)
    story = models.ForeignKey(
        "stories.Story",
        verbose_name=_("故事"),
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="attempts",
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
    is_probe = models.BooleanField(_("试问空账户"), default=False, editable=False)
    reserved = models.BigIntegerField(_("预留"), default=0)
    price = models.BigIntegerField(_("费用"), null=True, blank=True)
    prompt_tokens = models.PositiveIntegerField(_("输入词元"), null=True, blank=True)
    completion_tokens = models.PositiveIntegerField(_("输出词元"), null=True, blank=True)
    cached_tokens = models.PositiveIntegerField(_("其中缓存输入词元"), null=True, blank=True)
    reasoning_tokens = models.PositiveIntegerField(_("其中思考词元"), null=True, blank=True)
    finish_reason = models.CharField(_("结束标记"), max_length=40, blank=True)
    error = SentenceField(_("出错说明"), blank=True)
    doubt = SentenceField(_("账单存疑"), blank=True)
    corrected_at = models.DateTimeField(_("费用更正时间"), null=True, blank=True)
    started_at = models.DateTimeField(_("开始时间"), auto_now_add=True)
    first_thought_at = models.DateTimeField(_("开始思考时间"), null=True, blank=True)
    first_text_at = models.DateTimeField(_("首字时间"), null=True, blank=True)
    ended_at = models.DateTimeField(_("结束时间"), null=True, blank=True)

    class Meta:
        verbose_name = _("调用")
        verbose_name_plural = _("调用")
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(fields=["story", "fence"], name="attempt_once_per_claim"),
            models.CheckConstraint(
                condition=Q(purpose="story", story__isnull=False)
                | Q(purpose__in=["promotion", "check"], story__isnull=True),
                name="attempt_story_by_purpose",
            ),
            models.UniqueConstraint(
                fields=["language_model"],
                condition=Q(purpose="promotion", state__in=["submitting", "streaming"]),
                name="attempt_one_open_promotion",
            ),
        ]

    def __str__(self) -> str:
        if self.story_id is None:
            return f"{self.get_purpose_display()} · {self.pk}"
        return f"{self.story_id} · {self.fence}"

    @property
    def is_settled(self) -> bool:
        return self.state not in self.OPEN

    @property
    def own_story(self) -> "Story":
        """The story of a call that was made for one."""
        assert self.story is not None, "a call for a story has one (attempt_story_by_purpose)"
        return self.story
