"""What was found out of the endpoints: what each can do."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class EndpointCheck(models.Model):
    """The last check of one address. `findings`: a list of objects with `name verdict asked answered` (all texts)."""

    base_url = models.CharField(_("地址"), max_length=300, unique=True)
    alias = models.CharField(_("接入点"), max_length=40)
    model_name = models.CharField(_("试问的模型"), max_length=200, blank=True)
    findings = models.JSONField(_("结果"))
    checked_by = models.CharField(_("谁"), max_length=200)
    checked_at = models.DateTimeField(_("时间"))

    class Meta:
        verbose_name = _("接入点检查")
        verbose_name_plural = _("接入点检查")
        ordering = ["alias"]

    def __str__(self) -> str:
        return self.alias

    def verdict_on(self, name: str) -> str:
        """ "yes", "no" or "unknown"."""
        verdicts = {finding["name"]: str(finding["verdict"]) for finding in self.findings}
        return verdicts.get(name, "unknown")
