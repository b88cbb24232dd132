"""What a server does beside answering: the work of recovery, and the mail; each by its name where several processes share it."""

from hanbit.mail.post import post_due
from hanbit.payments import recovery
from hanbit.payments.recovery import Job

JOBS: tuple[Job, ...] = (*recovery.JOBS, post_due)
assert len({job.__name__ for job in JOBS}) == len(JOBS), "each job is known by its name"
