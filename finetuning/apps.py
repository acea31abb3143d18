from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class FinetuningConfig(AppConfig):
    name = "finetuning"
    verbose_name = _("微调")
