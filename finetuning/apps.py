"""The app of training; a start that is alone on its database ends the leases of an earlier one."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class FinetuningConfig(AppConfig):
    name = "finetuning"
    verbose_name = _("微调")

    def ready(self) -> None:
        from finetuning.training.states import expire_leases  # models are not there any earlier
        from stories.operations.seeding import taken_over

        taken_over.connect(expire_leases, dispatch_uid="finetuning.expire_leases")
