"""Settings of the site: every value comes from the environment, read once, here, by the table in `variables.py`."""

import logging
from pathlib import Path

import environ
from csp.constants import NONCE, NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

from llm.endpoints import Endpoint, read_endpoints, read_moderation
from ultraman_site.environment import BASE_DIR, Values, load
from ultraman_site.proxies import read_networks

__all__ = ["BASE_DIR", "NONCE", "Endpoint"]


variables = load()
values = Values(variables)

DEBUG = values.flag("DEBUG")
SECRET_KEY = values.text("SECRET_KEY")
if not SECRET_KEY:
    raise ImproperlyConfigured("SECRET_KEY is not set: start the site with `make run`, or set it in .env.")
ALLOWED_HOSTS = values.names("ALLOWED_HOSTS")
# The proxies whose X-Forwarded-For and X-Forwarded-Proto are believed; what they say is judged in proxies.py alone.
TRUSTED_PROXIES = read_networks(values.text("TRUSTED_PROXIES"))
CSRF_TRUSTED_ORIGINS = [f"https://{host.lstrip('.')}" for host in ALLOWED_HOSTS if host != "*"]
DATA_DIR = Path(BASE_DIR / values.text("DATA_DIR"))
MEDIA_ROOT = DATA_DIR / "files"
# What is stored is for our user alone, whatever the umask; what `collectstatic` lays out is for everyone.
FILE_UPLOAD_PERMISSIONS, FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o600, 0o700
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage",
        "OPTIONS": {"file_permissions_mode": 0o644, "directory_permissions_mode": 0o755},
    },
}

INSTALLED_APPS = [
    "ultraman_site.apps.EditorialConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "django_htmx",
    "axes",
    "csp",
    "stories",
    "finetuning",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "stories.middleware.BodyMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "stories.middleware.ReaderMiddleware",
    "axes.middleware.AxesMiddleware",
]

AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_CLIENT_IP_CALLABLE = "stories.middleware.line_of"  # whatever else is installed, ours is the address
AXES_LOCKOUT_TEMPLATE = "lockout.html"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/"
LOGIN_URL = "/admin/login/"

ROOT_URLCONF = "ultraman_site.urls"
ASGI_APPLICATION = "ultraman_site.asgi.application"
WSGI_APPLICATION = "ultraman_site.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

database_url = values.text("DATABASE_URL") or f"sqlite:///{DATA_DIR / 'site.sqlite3'}"
DATABASES = {"default": environ.Env.db_url_config(database_url)}
DATABASES["default"]["ATOMIC_REQUESTS"] = False
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # One writer at a time: take its lock when a transaction begins, wait for it, and let readers go on.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": values.count("SQLITE_TIMEOUT"),  # seconds; after that the page asks to try again
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
    # Opening one costs milliseconds, and who closes the last one writes the whole log back to the file.
    DATABASES["default"]["CONN_MAX_AGE"] = 60
else:
    DATABASES["default"]["OPTIONS"] = {"pool": {"min_size": 0, "max_size": 20, "timeout": 10}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = values.text("REDIS_URL")

CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_DEFAULT_QUEUE = "bulk"
# Acknowledged on receipt: leases and the sweeper see to the rows of a lost worker. A message still unacknowledged
# when Redis goes away would bring the whole worker down with it, and all its streams (kombu 5.7).
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_DISABLE_PREFETCH = True  # a message that no thread is free for waits in Redis, for any worker
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_PUBLISH_RETRY = False
# A refused connection is tried twice at once (kombu waits two, then four seconds of its own accord).
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_timeout": 4,
    "socket_connect_timeout": 2,
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0,
    "interval_max": 0,
}
# No file to keep, which a full disk would spoil: every turn is an hour at most, and the first comes at once.
CELERY_BEAT_SCHEDULER = "celery.beat:Scheduler"

# Models and money. The default endpoint is OPENAI_*; further ones are LLM_ENDPOINT_<ALIAS>.
LLM_ENDPOINTS: dict[str, Endpoint] = read_endpoints(variables)
OPENAI_MODEL = values.text("OPENAI_MODEL")
FINE_TUNE_BASE_MODEL = values.text("FINE_TUNE_BASE_MODEL") or OPENAI_MODEL
DAILY_SPEND_LIMIT_USD = values.usd("DAILY_SPEND_LIMIT_USD")

READER_STORIES_PER_DAY = values.count("READER_STORIES_PER_DAY")
READER_STREAMS = values.count("READER_STREAMS")
ADDRESS_STORIES_PER_DAY = values.count("ADDRESS_STORIES_PER_DAY")
ADDRESS_SOCKETS = values.count("ADDRESS_SOCKETS")
SITE_STORIES_PER_DAY = values.count_or_none("SITE_STORIES_PER_DAY")
MODERATION = read_moderation(values.text("MODERATION"), LLM_ENDPOINTS)
# The old name; with 1 an order whose moderation call fails is written all the same. `manage.py check` warns of it.
MODERATION_FAIL_OPEN = values.flag("MODERATION_FAIL_OPEN")

# The check of each new story: when it is flagged. Flags sort the queue and decide nothing.
QUALITY_SHORTEST = values.count("QUALITY_SHORTEST")
QUALITY_LONGEST = values.count("QUALITY_LONGEST")
QUALITY_CHINESE_SHARE = values.count("QUALITY_CHINESE_PERCENT") / 100
QUALITY_REPEATED_LENGTH = values.count("QUALITY_REPEATED_LENGTH")
QUALITY_DUPLICATE_SCORE = values.count("QUALITY_DUPLICATE_SCORE")

LANGUAGE_CODE = "zh-hans"
LANGUAGES = [("zh-hans", _("中文")), ("en", _("English"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "Asia/Shanghai"

# The longest body of a request but a file to import (see ultraman_site/bodies.py): a story of 20,000 characters
# is 180 kB in a form.
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = DATA_DIR / "static"
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    },
}
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SESSION_ENGINE = "ultraman_site.sessions"
SESSION_COOKIE_HTTPONLY = True
# Behind a TLS proxy; a loopback run speaks plain HTTP, and says so by its hosts.
SECURE = not DEBUG and not set(ALLOWED_HOSTS) <= {"127.0.0.1", "localhost", "[::1]", "testserver"}
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = SECURE
SECURE_HSTS_SECONDS = 31_536_000 if SECURE else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = SECURE


def is_news(record: logging.LogRecord) -> bool:
    """A probe that finds the site not ready learns it from the answer; the log need not say so each time."""
    path = getattr(getattr(record, "request", None), "path", "")
    return not path.startswith("/health/")


LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {
            "()": "ultraman_site.log_lines.LineFormatter",
            "format": "%(asctime)s %(levelname)s %(name)s: %(message)s",
        }
    },
    "filters": {"news": {"()": "django.utils.log.CallbackFilter", "callback": is_news}},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "plain", "filters": ["news"]},
    },
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {
        "httpx2": {"level": "WARNING"},
        "axes.apps": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
        "celery.beat": {"level": "WARNING"},
        # uvicorn gives its loggers handlers of their own before it reads these settings
        "uvicorn": {"handlers": ["console"], "level": "WARNING", "propagate": False},
        "uvicorn.error": {"handlers": [], "propagate": True},
    },
}
