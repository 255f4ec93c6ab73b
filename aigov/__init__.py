"""The project. Celery's app is loaded with it, so that a task that a web process sends finds the broker."""

from aigov.celery import app as celery_app

__all__ = ["celery_app"]
