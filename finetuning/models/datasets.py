"""Frozen copies of approved stories."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


class Dataset(models.Model):
    """One version of a named dataset. Files are relative to MEDIA_ROOT; their bytes never change."""

    class Format(models.TextChoices):
        CHAT = "chat", _("对话行")
        COMPLETION = "completion", _("续写行")

    name = models.CharField(_("名称"), max_length=60)
    version = models.PositiveIntegerField(_("版本"))
    format = models.CharField(_("格式"), max_length=12, choices=Format.choices, default=Format.CHAT)
    stop = models.CharField(_("停止串"), max_length=40, blank=True)
    runs = models.ManyToManyField("stories.Run", verbose_name=_("批次"), blank=True)
    since = models.ForeignKey("self", verbose_name=_("自从"), null=True, blank=True, on_delete=models.PROTECT)
    training_rows = models.PositiveIntegerField(_("训练行数"))
    validation_rows = models.PositiveIntegerField(_("验证行数"))
    tokens = models.PositiveIntegerField(_("训练词元（估计）"))
    training_file = models.CharField(_("训练文件"), max_length=200)
    validation_file = models.CharField(_("验证文件"), max_length=200, blank=True)
    sha256 = models.CharField("sha256", max_length=64)
    validation_sha256 = models.CharField(_("验证文件 sha256"), max_length=64, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("创建人"), null=True, blank=True, on_delete=models.SET_NULL
    )
    created_at = models.DateTimeField(_("创建时间"), auto_now_add=True)

    class Meta:
        verbose_name = _("数据集")
        verbose_name_plural = _("数据集")
        ordering = ["-created_at", "-pk"]
        constraints = [models.UniqueConstraint(fields=["name", "version"], name="dataset_version_once")]

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


class DatasetRow(models.Model):
    """One story as it was when the dataset was frozen."""

    class Split(models.TextChoices):
        TRAINING = "training", _("训练")
        VALIDATION = "validation", _("验证")

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="rows")
    story = models.ForeignKey(
        "stories.Story", null=True, on_delete=models.SET_NULL, related_name="dataset_rows"
    )
    split = models.CharField(max_length=12, choices=Split.choices)
    position = models.PositiveIntegerField()
    dynasty = models.CharField(max_length=32)
    super_power = models.CharField(max_length=32)
    story_type = models.CharField(max_length=32)
    text = models.TextField()

    class Meta:
        verbose_name = _("数据集行")
        verbose_name_plural = _("数据集行")
        ordering = ["dataset", "split", "position"]
        constraints = [
            models.UniqueConstraint(fields=["dataset", "split", "position"], name="dataset_row_once"),
            models.UniqueConstraint(fields=["dataset", "story"], name="dataset_story_once"),
        ]

    def __str__(self) -> str:
        return f"{self.dataset} #{self.position}"
