"""What readers say of a story: liked, disliked, finished, reported; kept with the model that wrote it."""

from typing import Self

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from stories.models.reviews import Review


class ReactionQuerySet(models.QuerySet["Reaction"]):
    def tastes(self) -> Self:
        return self.filter(kind__in=[Reaction.Kind.LIKED, Reaction.Kind.DISLIKED])

    def reports(self) -> Self:
        return self.filter(kind=Reaction.Kind.REPORTED)

    def open_reports(self) -> Self:
        """Those that no editor has decided on, oldest first."""
        return self.reports().filter(settled_by__isnull=True).order_by("pk")

    def found_wrong(self) -> Self:
        """Reports after which an editor kept the story."""
        kept = [Review.Decision.RESTORED, Review.Decision.APPROVED]
        return self.reports().filter(settled_by__decision__in=kept)


class Reaction(models.Model):
    """One reader on one story. `who` is their `Reader.identity`; a report is settled by the review it led to.

    `address_hash` (`addresses.hash_address`) tells an open report's address from others; "" once the report is
    settled or old.
    """

    class Kind(models.TextChoices):
        LIKED = "liked", _("喜欢")
        DISLIKED = "disliked", _("不喜欢")
        FINISHED = "finished", _("读完了")
        REPORTED = "reported", _("举报")

    class Cause(models.TextChoices):
        """Why a story is reported."""

        SEXUAL = "sexual", _("低俗色情")
        VIOLENT = "violent", _("血腥暴力")
        ILLEGAL = "illegal", _("违法有害")
        PERSON = "person", _("冒犯或泄露他人")
        BROKEN = "broken", _("乱写一通，读不下去")
        OTHER = "other", _("其他")

    story = models.ForeignKey(
        "stories.Story", verbose_name=_("故事"), on_delete=models.CASCADE, related_name="reactions"
    )
    who = models.CharField(_("读者"), max_length=80)
    kind = models.CharField(_("反应"), max_length=10, choices=Kind.choices)
    cause = models.CharField(_("缘由"), max_length=10, choices=Cause.choices, blank=True)
    reason = models.CharField(_("理由"), max_length=500, blank=True)
    passage = models.CharField(_("所指的段落"), max_length=1000, blank=True)
    language_model = models.ForeignKey(
        "stories.LanguageModel", verbose_name=_("模型"), null=True, on_delete=models.PROTECT
    )
    settled_by = models.ForeignKey(
        "stories.Review",
        verbose_name=_("处理"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="settled_reports",
    )
    address_hash = models.CharField(max_length=64, blank=True, editable=False)
    created_at = models.DateTimeField(_("时间"), auto_now_add=True)

    objects = ReactionQuerySet.as_manager()

    class Meta:
        verbose_name = _("读者反应")
        verbose_name_plural = _("读者反应")
        ordering = ["-pk"]
        indexes = [models.Index(fields=["who"], name="reaction_reader")]
        constraints = [
            models.UniqueConstraint(fields=["story", "who", "kind"], name="reaction_once"),
            models.UniqueConstraint(
                fields=["story", "who"],
                condition=Q(kind__in=["liked", "disliked"]),
                name="reaction_liked_or_disliked",
            ),
            models.CheckConstraint(
                condition=~Q(kind="reported") | ~Q(cause=""), name="reaction_report_has_cause"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} · {self.who}"
