"""The story: one text for one combo, from order to library."""

import hashlib
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import reduce
from operator import or_
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Exists, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Coalesce, NullIf
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from sentences.fields import SentenceField
from stories.models.attempts import Attempt
from stories.models.batches import BatchOrder
from stories.models.imports import PublishedManager
from stories.models.language_models import LanguageModel
from stories.models.reactions import Reaction
from stories.models.reviews import Review
from stories.values.combos import Combo


class EndReason(models.TextChoices):
    """Why a text ended where it does."""

    STOP = "stop", _("写完了")
    LENGTH = "length", _("达到长度上限")
    CONTENT_FILTER = "content_filter", _("模型拒绝，或被内容过滤")
    STOPPED = "stopped", _("被读者停止")
    CUT = "cut", _("连接中断")
    LOST = "lost", _("写作进程中断")
    REFUSED = "refused", _("被模型服务拒绝")
    QUOTA = "quota", _("额度或预算用完")
    EMPTY = "empty", _("模型没有写出文字")
    UNKNOWN = "unknown", _("结果不明")
    CANCELLED = "cancelled", _("批次已取消")


# The editor's text where there is one, else the model's: `Story.final_text` for a query.
FINAL_TEXT = Coalesce(NullIf("edited_text", Value("", models.TextField())), "text")


class StoryQuerySet(models.QuerySet["Story"]):
    def approved(self) -> Self:
        return self.filter(verdict=Story.Verdict.APPROVED)

    def library(self) -> Self:
        """What everyone may read, newest first; a story that is held is not, until an editor decides."""
        shown = self.approved().filter(visibility=Story.Visibility.LIBRARY, held_at__isnull=True)
        return shown.order_by("-created_at", "-pk")

    def reviewable(self) -> Self:
        """Written, and waiting for an editor's decision; a reader's story only if its reader offered it."""
        ours = ~Q(origin=Story.Origin.READER) | Q(offered_at__isnull=False)
        silent = Q(reported_at__isnull=True) | ~Exists(_open_reports())
        return self.filter(
            ours, silent, state=Story.State.WRITTEN, verdict=Story.Verdict.UNREVIEWED, held_at__isnull=True
        )

    def reported(self) -> Self:
        """Those with a report that no editor has decided on, held back by it or not."""
        return self.filter(Exists(_open_reports()), reported_at__isnull=False)

    def with_reports(self) -> Self:
        """Annotates `is_reported`, which `reported` asks for."""
        return self.annotate(is_reported=Exists(_open_reports()))

    def having(self, ingredients: Mapping[str, str]) -> Self:
        """Those of exactly these ingredients, by axis."""
        return self.filter(**ingredients)

    def mentioning(self, words: Iterable[str]) -> Self:
        """Those that have every word in their combo or their final text, anywhere in it.

        A scan on both databases: see docs/decisions/search.md.
        """
        found = self.alias(final=FINAL_TEXT)
        for word in words:
            places = ("final", "dynasty", "super_power", "story_type")
            found = found.filter(reduce(or_, (Q(**{f"{place}__icontains": word}) for place in places)))
        return found

    def trainable(self) -> Self:
        """What datasets may take: approved, not held back; a reader's story by a named editor's review of it."""
        approvals = Review.objects.filter(story=OuterRef("pk"), verdict_after=Story.Verdict.APPROVED)
        ours = ~Q(origin=Story.Origin.READER) | (Q(offered_at__isnull=False) & Exists(approvals))
        return self.approved().filter(ours, held_at__isnull=True)

    def checkable(self) -> Self:
        """Those with a text that has ended, well or not: what `stories/review/quality` checks."""
        return self.filter(state__in=[Story.State.WRITTEN, Story.State.INTERRUPTED])

    def unchecked(self) -> Self:
        """Those whose text, as it stands now, nobody has looked at yet, oldest first."""
        return self.checkable().filter(checked_at__isnull=True).order_by("ended_at", "pk")

    def outside_orders(self) -> Self:
        """Those that no unfinished batch order holds: such a story's answer may come, whatever its lease says."""
        calls = Attempt.objects.filter(story=OuterRef("pk"), fence=OuterRef("fence"), state__in=Attempt.OPEN)
        return self.exclude(Exists(calls.filter(batch__in=BatchOrder.objects.unfinished())))

    def unfinished(self) -> Self:
        return self.filter(state__in=[Story.State.QUEUED, Story.State.WRITING])

    def with_final_text(self) -> Self:
        """Annotates `final`: the editor's text where there is one, else the model's."""
        return self.annotate(final=FINAL_TEXT)


def _open_reports() -> QuerySet[Reaction]:
    return Reaction.objects.open_reports().order_by().filter(story=OuterRef("pk"))


class Story(models.Model):
    """`text` is what the model wrote, `length` its size in Unicode code points, `edited_text` an editor's.

    `reported_at`: when last; the report waits for an editor unless it is settled. `held_at`: shown to nobody but
    its reader and staff since that report, until an editor decides (for good, if the decision is no;
    `holds` tells which reports do that). `offered_at`, `offered_by`: when and by whom (`Reader.identity`) a
    reader's story was offered for the library and for training; null again when that was taken back.
    `objects` are all stories; `staged` also has those of imports that are not published yet, and is only for the
    code that stages and removes them.
    """

    class State(models.TextChoices):
        QUEUED = "queued", _("排队中")
        WRITING = "writing", _("正在写")
        WRITTEN = "written", _("已写成")
        INTERRUPTED = "interrupted", _("中断")
        FAILED = "failed", _("失败")
        CANCELLED = "cancelled", _("已取消")

    class Verdict(models.TextChoices):
        UNREVIEWED = "unreviewed", _("待审")
        APPROVED = "approved", _("采纳")
        REJECTED = "rejected", _("拒绝")

    class Visibility(models.TextChoices):
        PRIVATE = "private", _("仅自己可见")
        LINK = "link", _("有链接可见")
        LIBRARY = "library", _("书架")

    class Origin(models.TextChoices):
        RUN = "run", _("批次")
        READER = "reader", _("读者")
        IMPORT = "import", _("导入")

    thinking_since: datetime | None
    """Only on rows that `live.snapshots.with_thinking` read."""

    ENDED = (State.WRITTEN, State.INTERRUPTED, State.FAILED, State.CANCELLED)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    dynasty = models.CharField(_("朝代"), max_length=32)
    super_power = models.CharField(_("超能力"), max_length=32)
    story_type = models.CharField(_("战斗"), max_length=32)
    origin = models.CharField(_("来源"), max_length=8, choices=Origin.choices)
    run = models.ForeignKey(
        "stories.Run",
        verbose_name=_("批次"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="stories",
    )
    slot = models.PositiveIntegerField(_("序号"), null=True, blank=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("读者"), null=True, blank=True, on_delete=models.SET_NULL
    )
    reader_key = models.CharField(_("读者标识"), max_length=32, blank=True, editable=False)
    again_of = models.ForeignKey(
        "self",
        verbose_name=_("重写自"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="versions",
    )
    language_model = models.ForeignKey(
        "stories.LanguageModel", verbose_name=_("模型"), null=True, blank=True, on_delete=models.PROTECT
    )
    template = models.ForeignKey(
        "stories.Template", verbose_name=_("提示词模板"), null=True, blank=True, on_delete=models.PROTECT
    )
    imported_file = models.ForeignKey(
        "stories.ImportedFile",
        verbose_name=_("导入的文件"),
        null=True,
        blank=True,
        editable=False,
        on_delete=models.PROTECT,
        related_name="stories",
        db_index=False,  # its own index below holds imported stories alone
    )

    state = models.CharField(_("状态"), max_length=12, choices=State.choices, default=State.QUEUED)
    end_reason = models.CharField(_("结束原因"), max_length=16, choices=EndReason.choices, blank=True)
    error = SentenceField(_("出错说明"), blank=True)
    text = models.TextField(_("正文"), blank=True)
    length = models.PositiveIntegerField(_("字数"), default=0)
    edited_text = models.TextField(_("编辑后的正文"), blank=True)
    verdict = models.CharField(
        _("审核结论"), max_length=12, choices=Verdict.choices, default=Verdict.UNREVIEWED
    )
    visibility = models.CharField(
        _("可见范围"), max_length=8, choices=Visibility.choices, default=Visibility.PRIVATE
    )
    reported_at = models.DateTimeField(_("举报时间"), null=True, blank=True, editable=False)
    held_at = models.DateTimeField(_("因举报收起"), null=True, blank=True, editable=False)
    offered_at = models.DateTimeField(_("投稿时间"), null=True, blank=True, editable=False)
    offered_by = models.CharField(_("投稿人"), max_length=80, blank=True, editable=False)
    likes = models.PositiveIntegerField(_("喜欢"), default=0, editable=False)

    attempt_name = models.CharField(max_length=32, blank=True, editable=False)
    fence = models.PositiveIntegerField(default=0, editable=False)
    lease_until = models.DateTimeField(null=True, blank=True, editable=False)
    tries = models.PositiveIntegerField(default=0, editable=False)
    next_try_at = models.DateTimeField(null=True, blank=True, editable=False)
    published_at = models.DateTimeField(null=True, blank=True, editable=False)
    stop_requested = models.BooleanField(default=False, editable=False)

    created_at = models.DateTimeField(_("创建时间"), auto_now_add=True)
    started_at = models.DateTimeField(_("开始时间"), null=True, blank=True)
    ended_at = models.DateTimeField(_("结束时间"), null=True, blank=True)
    reviewed_at = models.DateTimeField(_("审核时间"), null=True, blank=True)
    checked_at = models.DateTimeField(_("检查时间"), null=True, blank=True, editable=False)
    flag_count = models.PositiveSmallIntegerField(_("标记"), default=0, editable=False)

    objects = PublishedManager.from_queryset(StoryQuerySet)()
    staged = StoryQuerySet.as_manager()

    class Meta:
        verbose_name = _("故事")
        verbose_name_plural = _("故事")
        ordering = ["-created_at", "-pk"]
        # What every query asks of `imported_file` is read from the index: staged rows are skipped without their texts.
        indexes = [
            models.Index(fields=["-created_at", "-id", "imported_file"], name="story_newest"),
            models.Index(fields=["state", "lease_until"], name="story_leases"),
            models.Index(
                fields=["verdict", "visibility", "-created_at", "-id", "imported_file"], name="story_library"
            ),
            models.Index(
                fields=["verdict", "visibility", "-likes", "-created_at", "-id", "imported_file"],
                name="story_best_liked",
            ),
            models.Index(fields=["reader_key"], name="story_reader"),
            models.Index(fields=["run", "state"], name="story_of_run"),
            models.Index(
                fields=["dynasty", "super_power", "story_type", "verdict", "imported_file"], name="story_cell"
            ),
            models.Index(
                fields=["imported_file"], condition=Q(imported_file__isnull=False), name="story_of_file"
            ),
            # The order of `decisions.QUEUE`, with all columns that `reviewable` asks.
            models.Index(
                fields=[
                    *("verdict", "state", "flag_count", "-created_at", "-id"),
                    *("imported_file", "origin", "offered_at", "held_at"),
                ],
                condition=Q(held_at__isnull=True),
                name="story_queue",
            ),
            # No state in its condition: SQLite sees no partial index behind `state IN (?, ?)`.
            models.Index(
                fields=["checked_at", "ended_at", "id", "imported_file", "state"],
                condition=Q(checked_at__isnull=True),
                name="story_unchecked",
            ),
            models.Index(
                fields=["reported_at"], condition=Q(reported_at__isnull=False), name="story_reported"
            ),
        ]
        permissions = [("review_story", "Can approve, reject and edit stories")]
        constraints = [
            models.UniqueConstraint(fields=["run", "slot"], name="story_one_per_slot"),
            models.CheckConstraint(
                condition=~Q(verdict="approved") | Q(state="written"), name="story_approved_is_written"
            ),
            models.CheckConstraint(
                condition=~Q(visibility="library") | Q(verdict="approved"), name="story_library_is_approved"
            ),
            models.CheckConstraint(
                condition=~Q(verdict="approved") | ~Q(origin="reader") | Q(offered_at__isnull=False),
                name="story_readers_is_offered_first",
            ),
            models.CheckConstraint(
                condition=~Q(state="written") | Q(length__gt=0) | ~Q(edited_text=""),
                name="story_written_has_text",
            ),
            models.CheckConstraint(
                condition=Q(state="writing", lease_until__isnull=False) | ~Q(state="writing"),
                name="story_writing_has_lease",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.combo}"

    def get_absolute_url(self) -> str:
        return reverse("stories:story", args=[self.pk])

    @property
    def model(self) -> LanguageModel:
        """The model that writes it, set where the story is ordered. Raises `LookupError` for an imported story."""
        if self.language_model is None:
            raise LookupError(
                f"story {self.pk} has no language model: only an imported story may be without one"
            )
        return self.language_model

    @property
    def combo(self) -> Combo:
        return Combo(self.dynasty, self.super_power, self.story_type)

    @property
    def final_text(self) -> str:
        """What pages, exports and datasets use: the editor's text where there is one."""
        return self.edited_text or self.text

    @property
    def text_name(self) -> str:
        """The opaque name of the final text, as clients hold it: an edit is another text, its undoing the old one.

        "" only while no attempt has begun and there is no text.
        """
        name = self.attempt_name or (self.pk.hex if self.text else "")
        return f"{name}.{self.text_mark}" if self.edited_text else name

    @property
    def text_mark(self) -> str:
        """Twelve hex digits of the final text's hash."""
        return hashlib.sha256(self.final_text.encode()).hexdigest()[:12]

    @property
    def is_reviewable(self) -> bool:
        """Whether the row, as it was loaded, waits for a decision: `StoryQuerySet.reviewable` for one story."""
        waits = self.state == self.State.WRITTEN and self.verdict == self.Verdict.UNREVIEWED
        offered = self.origin != self.Origin.READER or self.offered_at is not None
        return waits and offered and self.held_at is None

    @property
    def has_ended(self) -> bool:
        return self.state in self.ENDED
