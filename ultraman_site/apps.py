"""Django's admin, by our own admin site."""

from django.contrib.admin.apps import AdminConfig


class EditorialConfig(AdminConfig):
    default_site = "stories.admin_site.EditorialSite"
