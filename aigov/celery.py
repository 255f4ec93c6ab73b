"""Work apart from requests: each app's `tasks` module, and when what is due."""

import os

from celery import Celery
from celery.schedules import crontab

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aigov.settings")

app = Celery("aigov")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.conf.beat_schedule = {
    # A task that waited longer than its period is of no use: the next one does its work.
    "expire-holds": {"task": "budgets.tasks.expire_holds", "schedule": 15.0, "options": {"expires": 15.0}},
    "probe-providers": {
        "task": "providers.tasks.probe_providers",
        "schedule": 15.0,
        "options": {"expires": 15.0},
    },
    "keep-circuit-turns": {
        "task": "providers.tasks.keep_circuit_turns",
        "schedule": 15.0,
        "options": {"expires": 15.0},
    },
    "forget-circuit-turns": {
        "task": "providers.tasks.forget_circuit_turns",
        "schedule": crontab(hour="3", minute="20"),
        "options": {"expires": 3600.0},
    },
    "forget-answers": {
        "task": "aigov.web.tasks.forget_answers",
        "schedule": 600.0,
        "options": {"expires": 600.0},
    },
    "evaluate-alerts": {
        "task": "budgets.tasks.evaluate_alerts",
        "schedule": 60.0,
        "options": {"expires": 60.0},
    },
    "notice-refusals": {
        "task": "routing.tasks.notice_refusals",
        "schedule": 60.0,
        "options": {"expires": 60.0},
    },
    "evaluate-days": {
        "task": "budgets.tasks.evaluate_days",
        "schedule": 600.0,
        "options": {"expires": 600.0},
    },
    "deliver-alerts": {
        "task": "budgets.tasks.deliver_alerts",
        "schedule": 15.0,
        "options": {"expires": 15.0},
    },
    # One that makes files may run for minutes; meanwhile the others find nothing to do.
    "make-exports": {
        "task": "aigov.organizations.tasks.make_exports",
        "schedule": 5.0,
        "options": {"expires": 5.0},
    },
    "forget-exports": {
        "task": "aigov.organizations.tasks.forget_exports",
        "schedule": 600.0,
        "options": {"expires": 600.0},
    },
    "roll-up-costs": {
        "task": "budgets.tasks.roll_up_costs",
        "schedule": 60.0,
        "options": {"expires": 60.0},
    },
    "roll-up-requests": {
        "task": "kpis.tasks.roll_up_requests",
        "schedule": 60.0,
        "options": {"expires": 60.0},
    },
    "send-digests": {"task": "kpis.tasks.send_digests", "schedule": 900.0, "options": {"expires": 900.0}},
    "expire-requests": {
        "task": "budgets.tasks.expire_requests",
        "schedule": 60.0,
        "options": {"expires": 60.0},
    },
    "send-mails": {
        "task": "aigov.organizations.tasks.send_mails",
        "schedule": 15.0,
        "options": {"expires": 15.0},
    },
    # Early in the UTC day, when yesterday's bill is there; bills of the days before may still change.
    "import-bills": {
        "task": "budgets.tasks.import_bills",
        "schedule": crontab(hour="1,6", minute="10"),
        "options": {"expires": 3600.0},
    },
    # Organizations begin their months at their own midnights.
    "open-months": {"task": "budgets.tasks.open_months", "schedule": 600.0, "options": {"expires": 600.0}},
}
