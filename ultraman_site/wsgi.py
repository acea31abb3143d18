"""WSGI entry, for tools that want one; the site itself is served by `asgi.py`."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ultraman_site.settings")
application = get_wsgi_application()
