from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class RoutingConfig(AppConfig):
    name = "routing"
    label = "routing"
    verbose_name = _("Routing")

    def ready(self) -> None:
        from routing.keys import register_keys

        register_keys()
