"""Mail to people: queued in the transaction of what it tells of, and sent by Celery from the table.

So no mail is lost while the broker or the mail server is down, and no page waits for either. A mail is
claimed by putting off its next try, which counts it, so that two workers never send the same. Only a worker
killed between the mail server's word and the row's leaves a mail to be sent again, under the same
Message-ID, by which mail servers know it.
"""

import logging
from collections.abc import Callable, Iterable
from datetime import timedelta
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMessage
from django.utils.translation import override

from aigov import clock
from aigov.organizations.models import Mail, User

BATCH_MAX = 200
TRIES_MAX = 12
#: Longer than one try can take (`EMAIL_TIMEOUT`), doubled with each: the last is two days after the first.
FIRST_RETRY = timedelta(minutes=5)
RETRY_MAX = timedelta(hours=6)
KEPT = timedelta(days=30)

log = logging.getLogger(__name__)


def queue_mail(*, to: Iterable[User], write: Callable[[], tuple[str, str]]) -> None:
    """Queues a mail to each of `to`, to be sent once the present transaction is committed.

    Args:
        write: gives subject and text; called once for each person, in their language.
    """
    now = clock.now()
    mails = []
    for user in to:
        with override(user.language or settings.LANGUAGE_CODE):
            subject, body = write()
        line = " ".join(subject.split())[:300]
        mails.append(Mail(recipient=user.email, subject=line, body=body, queued_at=now, due_at=now))
    Mail.objects.bulk_create(mails)


def send_mails() -> int:
    """Sends what is due, and forgets what was sent long ago; returns how many were sent.

    Ends at the first failure: if it is the mail server's, the other mails are spared their tries.
    """
    now = clock.now()
    Mail.objects.filter(sent_at__lt=now - KEPT).delete()
    due = Mail.objects.filter(sent_at__isnull=True, due_at__lte=now, tries__lt=TRIES_MAX)
    sent = 0
    for mail in due.order_by("due_at", "pk")[:BATCH_MAX]:
        if not _claim(mail):
            continue
        try:
            _message(mail).send()
        except (OSError, ValueError):  # smtplib's errors are OSErrors; ValueError: a header that is none
            log.exception("mail %s could not be sent (try %s of %s)", mail.pk, mail.tries + 1, TRIES_MAX)
            break
        Mail.objects.filter(pk=mail.pk).update(sent_at=clock.now())
        sent += 1
    return sent


def _claim(mail: Mail) -> bool:
    unclaimed = Mail.objects.filter(pk=mail.pk, sent_at__isnull=True, tries=mail.tries)
    wait = min(FIRST_RETRY * 2**mail.tries, RETRY_MAX)
    return unclaimed.update(tries=mail.tries + 1, due_at=clock.now() + wait) == 1


def _message(mail: Mail) -> EmailMessage:
    host = urlsplit(settings.PUBLIC_URL).hostname
    message_id = f"<aigov-{mail.pk}-{mail.queued_at:%Y%m%d%H%M%S%f}@{host}>"
    return EmailMessage(mail.subject, mail.body, to=[mail.recipient], headers={"Message-ID": message_id})
