from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class BudgetsConfig(AppConfig):
    name = "budgets"
    label = "budgets"
    verbose_name = _("Budgets")

    def ready(self) -> None:
        from budgets.keys import register_keys

        register_keys()
