"""For tools that ask for WSGI. The gateway is served by `aigov.asgi`: long calls must not hold threads."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aigov.settings")
application = get_wsgi_application()
