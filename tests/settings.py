"""The site's settings in the suite's environment; what differs is named here and nowhere else."""

from tests.environment import DATA_DIR  # first: it makes the environment that the next line reads
from ultraman_site import settings as site

globals().update({name: getattr(site, name) for name in dir(site) if name.isupper()})

# A file, not memory: threads and child processes of a test must see the same rows.
if site.DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    site.DATABASES["default"]["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}
else:
    # The negative controls of the race tests keep forty threads between a read and a write, each with a connection.
    site.DATABASES["default"]["OPTIONS"]["pool"]["max_size"] = 100
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
AXES_VERBOSE = False
