"""What the organizations' room does on its own, by Celery."""

from celery import shared_task

from aigov.organizations import exports, mail

#: A million rows take minutes.
MAKE_TIME_LIMIT_S = 3_600


@shared_task(time_limit=MAKE_TIME_LIMIT_S)  # type: ignore[untyped-decorator]
def make_exports() -> int:
    """Makes the long lists that people wait for as files."""
    return exports.make_exports()


@shared_task  # type: ignore[untyped-decorator]
def forget_exports() -> int:
    """Deletes the files of yesterday."""
    return exports.forget_exports()


@shared_task  # type: ignore[untyped-decorator]
def send_mails() -> int:
    """Sends the mails that wait; every 15 s."""
    return mail.send_mails()
