"""An editor's decisions; together they are a story's history."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from stories.models.imports import PublishedManager


class Review(models.Model):
    """One decision, with the text and the verdict before and after it; `held_before` is the story's `held_at`."""

    class Decision(models.TextChoices):
        APPROVED = "approved", _("采纳")
        REJECTED = "rejected", _("拒绝")
        EDITED = "edited", _("编辑")
        RESTORED = "restored", _("驳回举报")
        UNDONE = "undone", _("撤销")

    story = models.ForeignKey(
        "stories.Story", verbose_name=_("故事"), on_delete=models.CASCADE, related_name="reviews"
    )
    editor = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("编辑"), on_delete=models.PROTECT, related_name="reviews"
    )
    decision = models.CharField(_("决定"), max_length=10, choices=Decision.choices)
    reason = models.CharField(_("理由"), max_length=500, blank=True)
    text_before = models.TextField(_("之前的正文"))
    text_after = models.TextField(_("之后的正文"))
    verdict_before = models.CharField(_("之前的结论"), max_length=12)
    verdict_after = models.CharField(_("之后的结论"), max_length=12)
    held_before = models.DateTimeField(_("之前因举报收起"), null=True, blank=True, editable=False)
    imported_file = models.ForeignKey(
        "stories.ImportedFile",
        null=True,
        blank=True,
        editable=False,
        on_delete=models.PROTECT,
        related_name="+",
        db_index=False,
    )
    created_at = models.DateTimeField(_("时间"), auto_now_add=True)

    objects: models.Manager["Review"] = PublishedManager()
    staged: models.Manager["Review"] = models.Manager()

    class Meta:
        verbose_name = _("审核")
        verbose_name_plural = _("审核")
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return f"{self.get_decision_display()} · {self.editor}"
