"""Settings, read from the environment (and `.env`); a bad value stops the start with a sentence that names
it.
"""

from pathlib import Path
from typing import Any

from django.utils.translation import gettext_lazy as _

from aigov.environment import Environment

BASE_DIR = Path(__file__).resolve().parent.parent

env = Environment(BASE_DIR / ".env")

DEBUG = env.bool("DEBUG", default=False)
AIGOV_DATA_DIR = Path(env.text("AIGOV_DATA_DIR", default=str(BASE_DIR / ".data"))).resolve()
SECRET_KEY = env.secret_key("SECRET_KEY", kept_in=AIGOV_DATA_DIR / "secret_key")
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
HOST = env.text("HOST", default="127.0.0.1")
PORT = env.integer("PORT", default=8000, low=0, high=65535)
# Where people reach us, for the links in mails.
PUBLIC_URL = env.url("PUBLIC_URL", default=f"http://{HOST}:{PORT}")
WEB_WORKERS = env.integer("WEB_WORKERS", default=2, low=1, high=64)

# --- Requests and money
REQUEST_DEADLINE_S = env.integer("REQUEST_DEADLINE_S", default=60, low=1, high=3600)
HOLD_LIFETIME_S = env.integer(
    "HOLD_LIFETIME_S", default=REQUEST_DEADLINE_S + 60, low=REQUEST_DEADLINE_S + 1, high=7200
)
# What one web process works on at once, open streams included.
IN_FLIGHT_MAX = env.integer("IN_FLIGHT_MAX", default=1_500, low=1, high=100_000)

# --- Providers: those with a key or a base URL of their own take part; see `aigov.embedded` for the sandbox.
PROVIDERS = env.providers()
# Their bills are read with keys of another kind; without one, bills come from files alone.
BILLING = env.billing()

# --- PostgreSQL and Valkey: given, or embedded (`aigov.embedded` sets both before Django starts)
DATABASES = {"default": env.database("DATABASE_URL")}
DATABASES["default"]["CONN_MAX_AGE"] = 0
REDIS_URL = env.redis_url("REDIS_URL")
CACHES: dict[str, Any] = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": REDIS_URL,
        # Only speed hangs on the cache: where it is down, we go on without it.
        "OPTIONS": {"IGNORE_EXCEPTIONS": True, "SOCKET_CONNECT_TIMEOUT": 0.25, "SOCKET_TIMEOUT": 0.25},
    }
}

CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_TIME_LIMIT = 300
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False

# --- Django
INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "aigov.organizations",
    "aigov.registry",
    "aigov.web",
    "providers",
    "budgets",
    "routing",
    "kpis",
    "aigov",
]
MIDDLEWARE = [
    "aigov.web.middleware.request_headers",
    "django.middleware.security.SecurityMiddleware",
    "aigov.web.static_files.static_files",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "aigov.urls"
ASGI_APPLICATION = "aigov.asgi.application"
WSGI_APPLICATION = "aigov.wsgi.application"
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
            ]
        },
    }
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "organizations.User"
AUTHENTICATION_BACKENDS = ["aigov.organizations.permissions.RoleBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
# How long a link to set one's password works, in seconds (`aigov.organizations.passwords`).
PASSWORD_RESET_TIMEOUT = 3 * 24 * 3600

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
# Who has chosen a language keeps it in a cookie; before, it is the browser's.
LANGUAGE_COOKIE_AGE = 365 * 24 * 3600
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SAMESITE = "Lax"
FORMAT_MODULE_PATH = "aigov.formats"
LOCALE_PATHS = [BASE_DIR / "aigov" / "locale"]
TIME_ZONE = "Europe/Berlin"
USE_TZ = True

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
# Files are served from where the apps keep them; there is nothing to collect.
WHITENOISE_USE_FINDERS = True

EMAIL_TIMEOUT = 10
vars().update(env.email("EMAIL_URL", default="consolemail://"))
DEFAULT_FROM_EMAIL = env.text("EMAIL_FROM", default="aigov@localhost")

# --- Webhooks: hosts of the operator's own network that may be asked, too (`aigov.web.outbound`)
OUTBOUND_TRUSTED_HOSTS = frozenset(env.words("OUTBOUND_TRUSTED_HOSTS", default=[]))

# The largest body that is read, in bytes (`aigov.web.parsers`, `aigov.web.body_limit`).
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 1024 * 1024
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_HTTPONLY = True
X_FRAME_OPTIONS = "DENY"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["aigov.web.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["aigov.web.permissions.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["aigov.web.parsers.JsonParser"],
    "DEFAULT_SCHEMA_CLASS": "aigov.web.schema.GatewaySchema",
    "EXCEPTION_HANDLER": "aigov.web.errors.handle_exception",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "aigov",
    "DESCRIPTION": "One gateway for a company's AI calls, under monthly caps in euro that cannot be passed.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    # Choices stay where they are: many fields share a name, such as “type”, and not their choices.
    "POSTPROCESSING_HOOKS": [],
}

UNFOLD = {
    "SITE_TITLE": _("AI cost governance"),
    "SITE_HEADER": _("AI cost governance"),
    "SITE_SYMBOL": "account_balance",
    "SITE_URL": None,
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_LANGUAGES": True,
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "aigov.web.admin.icon"}],
    "GLOBAL_CALLBACK": "aigov.web.admin.no_inline_colors",
    "DASHBOARD_CALLBACK": "routing.home.home",
    "STYLES": ["aigov.web.admin.stylesheet"],
    "SIDEBAR": {"navigation": "aigov.web.admin.navigation"},
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {
        "httpx2": {"level": "WARNING"},
        "fontTools": {"level": "WARNING"},
        # Answers of 4xx and 503 are the callers' to see; our defects are logged by `aigov.web.errors`.
        "django.request": {"level": "CRITICAL"},
    },
}
