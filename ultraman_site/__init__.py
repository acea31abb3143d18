"""The site: settings, wiring and the one place that builds an OpenAI client."""

from ultraman_site.celery import app as celery_app

__all__ = ["celery_app"]
