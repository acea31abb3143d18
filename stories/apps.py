"""The app of stories; a login anywhere on the site keeps what the browser's cookie wrote."""

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in
from django.utils.translation import gettext_lazy as _


class StoriesConfig(AppConfig):
    name = "stories"
    verbose_name = _("故事")

    def ready(self) -> None:
        from stories.views.accounts import keep_stories  # models are not there any earlier

        user_logged_in.connect(keep_stories, dispatch_uid="stories.keep_stories")
