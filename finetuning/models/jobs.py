"""One fine-tune job at a provider, with what it reported."""

import uuid
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from sentences.fields import SentenceField
from stories.models.leased import LeasedQuerySet


class JobQuerySet(LeasedQuerySet["Job"]):
    def unfinished(self) -> Self:
        return self.exclude(state__in=Job.ENDED)

    def asking(self) -> Self:
        """Those that wait for a person's decision, or whose outcome is unknown."""
        return self.unfinished().filter(Q(asked_at__isnull=False) | Q(state__in=Job.UNKNOWN))


class Job(models.Model):
    """`state` is ours, `remote_status` the provider's own word. Null hyperparameters are "auto"; micro-USD."""

    class State(models.TextChoices):
        DRAFT = "draft", _("草稿")
        UPLOADING = "uploading", _("正在上传")
        UPLOADED = "uploaded", _("已上传")
        CREATING = "creating", _("正在创建")
        CREATED = "created", _("训练中")
        SUCCEEDED = "succeeded", _("成功")
        FAILED = "failed", _("失败")
        CANCELLED = "cancelled", _("已取消")
        REFUSED = "refused", _("被拒绝")
        UPLOAD_UNKNOWN = "upload_unknown", _("上传结果不明")
        CREATE_UNKNOWN = "create_unknown", _("创建结果不明")

    class Verdict(models.TextChoices):
        """What a person decided about a training whose provider does not say how it ended."""

        SUCCEEDED = "succeeded", _("记为成功")
        FAILED = "failed", _("记为失败")
        WAITING = "waiting", _("继续等")

    ENDED = (State.SUCCEEDED, State.FAILED, State.CANCELLED, State.REFUSED)
    UNKNOWN = (State.UPLOAD_UNKNOWN, State.CREATE_UNKNOWN)

    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    dataset = models.ForeignKey(
        "finetuning.Dataset", verbose_name=_("数据集"), on_delete=models.PROTECT, related_name="jobs"
    )
    language_model = models.ForeignKey(
        "stories.LanguageModel", verbose_name=_("起点模型"), on_delete=models.PROTECT, related_name="jobs"
    )
    suffix = models.CharField(_("后缀"), max_length=64, default="ultraman")
    epochs = models.PositiveIntegerField(_("轮数"), null=True, blank=True)
    batch_size = models.PositiveIntegerField(_("批大小"), null=True, blank=True)
    learning_rate_multiplier = models.FloatField(_("学习率倍数"), null=True, blank=True)
    fingerprint = models.CharField(max_length=64, editable=False)

    state = models.CharField(_("状态"), max_length=16, choices=State.choices, default=State.DRAFT)
    remote_status = models.CharField(_("对方状态"), max_length=40, blank=True)
    remote_id = models.CharField(_("对方编号"), max_length=100, blank=True)
    training_file_id = models.CharField(max_length=100, blank=True, editable=False)
    validation_file_id = models.CharField(max_length=100, blank=True, editable=False)
    result_file_id = models.CharField(max_length=100, blank=True, editable=False)
    tuned_model = models.ForeignKey(
        "stories.LanguageModel",
        verbose_name=_("训练出的模型"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="made_by",
    )
    error = SentenceField(_("出错说明"), blank=True)
    cancel_requested = models.BooleanField(_("已要求取消"), default=False)
    fence = models.PositiveIntegerField(default=0, editable=False)
    lease_until = models.DateTimeField(null=True, blank=True, editable=False)
    tries = models.PositiveIntegerField(default=0, editable=False)
    next_poll_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_polled_at = models.DateTimeField(_("上次查询"), null=True, blank=True, editable=False)
    unknown_since = models.DateTimeField(null=True, blank=True, editable=False)
    # Since when the provider says the same word; since when it processes our files, or does not show the job.
    status_since = models.DateTimeField(null=True, blank=True, editable=False)
    waiting_since = models.DateTimeField(null=True, blank=True, editable=False)
    asked_at = models.DateTimeField(_("等人决定"), null=True, blank=True, editable=False)
    verdict = models.CharField(
        _("人的决定"), max_length=12, choices=Verdict.choices, blank=True, editable=False
    )
    remote_model = models.CharField(_("对方给的模型名"), max_length=200, blank=True, editable=False)

    day = models.DateField(_("计费日"), null=True, blank=True, editable=False)
    reserved = models.BigIntegerField(_("预留费用"), null=True, blank=True)
    price = models.BigIntegerField(_("实际费用"), null=True, blank=True)
    doubt = SentenceField(_("账单存疑"), blank=True)
    corrected_at = models.DateTimeField(_("费用更正时间"), null=True, blank=True)
    total_steps = models.PositiveIntegerField(_("总步数"), null=True, blank=True, editable=False)
    trained_tokens = models.PositiveBigIntegerField(_("训练词元"), null=True, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("创建人"), null=True, blank=True, on_delete=models.SET_NULL
    )
    created_at = models.DateTimeField(_("创建时间"), auto_now_add=True)
    finished_at = models.DateTimeField(_("结束时间"), null=True, blank=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        verbose_name = _("微调任务")
        verbose_name_plural = _("微调任务")
        ordering = ["-pk"]
        permissions = [("start_job", "Can start and cancel fine-tune jobs")]
        constraints = [
            models.UniqueConstraint(
                fields=["fingerprint"],
                condition=~Q(state__in=["succeeded", "failed", "cancelled", "refused"]),
                name="job_one_unfinished_alike",
            ),
            models.UniqueConstraint(fields=["remote_id"], condition=~Q(remote_id=""), name="job_remote_once"),
        ]

    def __str__(self) -> str:
        return f"#{self.pk}"

    @property
    def has_ended(self) -> bool:
        return self.state in self.ENDED

    @property
    def is_asked(self) -> bool:
        """Whether a person is asked how the training ended."""
        return self.state == self.State.CREATED and self.asked_at is not None

    @property
    def is_asking(self) -> bool:
        """Whether a person must decide anything: what `JobQuerySet.asking` finds."""
        return self.is_asked or self.state in self.UNKNOWN

    @property
    def is_settled(self) -> bool:
        """Whether its price is decided, and may be corrected."""
        return self.has_ended


class JobEvent(models.Model):
    """One event of the provider, kept once."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="events")
    remote_id = models.CharField(max_length=100)
    level = models.CharField(max_length=20)
    message = models.TextField()
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [models.UniqueConstraint(fields=["job", "remote_id"], name="job_event_once")]

    def __str__(self) -> str:
        return self.message


class JobStep(models.Model):
    """The figures of one step; null where the provider does not say. Losses in nats per token."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="steps")
    step = models.PositiveIntegerField()
    elapsed_tokens = models.PositiveBigIntegerField(null=True)
    elapsed_examples = models.PositiveBigIntegerField(null=True)
    training_loss = models.FloatField(null=True)
    training_sequence_accuracy = models.FloatField(null=True)
    training_token_accuracy = models.FloatField(null=True)
    validation_loss = models.FloatField(null=True)
    validation_token_accuracy = models.FloatField(null=True)

    class Meta:
        ordering = ["job", "step"]
        constraints = [models.UniqueConstraint(fields=["job", "step"], name="job_step_once")]

    def __str__(self) -> str:
        return f"{self.job} {self.step}"
