"""Django's admin with our frame around it (floor 7)."""

from django.contrib.admin.apps import AdminConfig


class OfficeConfig(AdminConfig):
    default_site = "stories.admin_site.OfficeSite"
