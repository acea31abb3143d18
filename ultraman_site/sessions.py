"""Sessions in Django's table; an impossible cookie counts as absent.

A quoted cookie may hold any character, and PostgreSQL refuses a NUL: that was an error on every page.
"""

from django.contrib.sessions.backends.db import SessionStore as TableStore


class SessionStore(TableStore):
    def _validate_session_key(self, key: str | None) -> bool:
        possible = str(key or "")
        known: bool = super()._validate_session_key(possible)  # type: ignore[misc]
        return known and possible.isascii() and possible.isalnum()
