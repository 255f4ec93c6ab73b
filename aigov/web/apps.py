from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class WebConfig(AppConfig):
    name = "aigov.web"
    label = "web"
    verbose_name = _("Requests")

    def ready(self) -> None:
        from aigov.web.keys import register_keys

        register_keys()
