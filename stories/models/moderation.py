"""What is known of the moderation pages of endpoints."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from sentences.fields import SentenceField


class ModerationPage(models.Model):
    """The page at one endpoint's address; a row is written at the first order that asks it.

    `worked_at`: when it last answered; null: never. `absent_since`: when it was found that there is none.
    `failed_at` and `words`: when it last failed, and how.
    """

    base_url = models.CharField(_("地址"), max_length=300, unique=True)
    worked_at = models.DateTimeField(_("最近答复"), null=True, blank=True)
    absent_since = models.DateTimeField(_("没有审核页"), null=True, blank=True)
    failed_at = models.DateTimeField(_("最近失败"), null=True, blank=True)
    words = SentenceField(_("对方说"), blank=True)

    class Meta:
        verbose_name = _("内容审核页")
        verbose_name_plural = _("内容审核页")
        ordering = ["base_url"]

    def __str__(self) -> str:
        return self.base_url

    @property
    def is_down(self) -> bool:
        """Whether it failed when it was last asked, although there is one."""
        is_failing = self.failed_at is not None and (
            self.worked_at is None or self.worked_at < self.failed_at
        )
        return is_failing and self.absent_since is None
