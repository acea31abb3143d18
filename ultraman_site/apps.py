"""Django's admin with our frame around it."""

from django.contrib.admin.apps import AdminConfig


class EditorialConfig(AdminConfig):
    default_site = "stories.admin_site.EditorialSite"
