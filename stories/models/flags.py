"""What the check of a story's text found, with its evidence; and the fingerprints that near-duplicates meet by."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class Flag(models.Model):
    """One kind of doubt about one story. A flag decides nothing: it sorts the queue and shows the place.

    `evidence` may hold `passages` ([{start, end, text}], code points of the final text), `number` and `range`
    (what was counted and what was asked), `missing` (words), `neighbour` (a story's key), `score` (0 to 100).
    """

    class Kind(models.TextChoices):
        LENGTH = "length", _("字数不符")
        INGREDIENT = "ingredient", _("缺少配料")
        CAST = "cast", _("缺少奥特曼或怪兽")
        REPEATED = "repeated", _("重复的段落或句子")
        UNFINISHED = "unfinished", _("结尾没写完")
        NOT_CHINESE = "not_chinese", _("不是中文")
        LEFTOVER = "leftover", _("残留的提示或标记")
        THINKING = "thinking", _("残留的思考过程")
        TRUNCATED = "truncated", _("被截断")
        DUPLICATE = "duplicate", _("与别篇近似")

    story = models.ForeignKey(
        "stories.Story", verbose_name=_("故事"), on_delete=models.CASCADE, related_name="flags"
    )
    kind = models.CharField(_("标记"), max_length=12, choices=Kind.choices)
    evidence = models.JSONField(_("依据"), default=dict)
    neighbour = models.ForeignKey(
        "stories.Story",
        verbose_name=_("近似的故事"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="echoes",
    )
    created_at = models.DateTimeField(_("时间"), auto_now_add=True)

    class Meta:
        verbose_name = _("标记")
        verbose_name_plural = _("标记")
        ordering = ["pk"]
        indexes = [models.Index(fields=["kind", "story"], name="flag_facet")]
        constraints = [models.UniqueConstraint(fields=["story", "kind"], name="flag_once_per_kind")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}"


class Fingerprint(models.Model):
    """One story's text, made small: `digest` finds equal texts, the bands find similar ones."""

    story = models.OneToOneField("stories.Story", on_delete=models.CASCADE, related_name="fingerprint")
    digest = models.BigIntegerField(db_index=True)

    def __str__(self) -> str:
        return f"{self.story_id}"


class Band(models.Model):
    """A piece of a fingerprint: two texts that share one may be near-duplicates."""

    key = models.BigIntegerField()
    fingerprint = models.ForeignKey(Fingerprint, on_delete=models.CASCADE, related_name="bands")

    class Meta:
        indexes = [models.Index(fields=["key", "fingerprint"], name="band_lookup")]

    def __str__(self) -> str:
        return f"{self.key}"
