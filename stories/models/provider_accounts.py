"""Whose accounts at a provider are empty."""

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from sentences.fields import SentenceField


class ProviderAccount(models.Model):
    """The account behind one endpoint's address; a row is written when the provider first said that it is empty.

    While `out_of_money_since` is set nothing is asked there, but for one call (a probe) whenever `next_probe_at` has
    come. `words` are the provider's. `paid_at`: when a person last said that it was paid, or a probe was answered.
    """

    base_url = models.CharField(_("地址"), max_length=300, unique=True)
    out_of_money_since = models.DateTimeField(_("额度用完于"), null=True, blank=True)
    next_probe_at = models.DateTimeField(_("下次试问"), null=True, blank=True)
    words = SentenceField(_("对方说"), blank=True)
    paid_at = models.DateTimeField(_("恢复于"), null=True, blank=True)

    class Meta:
        verbose_name = _("服务账户")
        verbose_name_plural = _("服务账户")
        ordering = ["base_url"]
        constraints = [
            models.CheckConstraint(
                condition=Q(out_of_money_since__isnull=True) | Q(next_probe_at__isnull=False),
                name="provider_account_empty_is_probed",
            )
        ]

    def __str__(self) -> str:
        return self.base_url
