"""The settings and the wiring of the site."""

from ultraman_site.celery import app as celery_app

__all__ = ["celery_app"]
