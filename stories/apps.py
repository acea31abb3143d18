"""The app of stories; a login anywhere on the site keeps what the browser's cookie wrote."""

from collections.abc import Sequence

from django.apps import AppConfig
from django.conf import settings
from django.contrib.auth.signals import user_logged_in
from django.core.checks import CheckMessage, Warning, register
from django.utils.translation import gettext_lazy as _


class StoriesConfig(AppConfig):
    name = "stories"
    verbose_name = _("故事")

    def ready(self) -> None:
        from stories.views.accounts import keep_stories  # models are not there any earlier

        user_logged_in.connect(keep_stories, dispatch_uid="stories.keep_stories")


@register()
def check_old_names(app_configs: Sequence[AppConfig] | None, **_more: object) -> list[CheckMessage]:
    """Warns of variables that are still read under their old names."""
    if not settings.MODERATION_FAIL_OPEN:
        return []
    hint = "Set MODERATION=auto, required, off or an endpoint's alias instead."
    return [Warning("MODERATION_FAIL_OPEN is an old name.", hint=hint, id="stories.W001")]
