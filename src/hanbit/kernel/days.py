"""Calendar days of the operator's time zone: to which day an instant belongs, and when a day begins."""

from datetime import UTC, date, datetime, time, tzinfo
from zoneinfo import ZoneInfo

from hanbit.kernel.errors import BadInput

FIRST_YEAR, LAST_YEAR = 1971, 2199


def zone_of(name: str) -> tzinfo:
    """The time zone of this name (`Asia/Seoul`, `UTC`); BadInput if this machine knows none of it."""
    if name == "UTC":
        return UTC  # known everywhere, also where no database of time zones is installed
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:  # no name of a zone, a folder of the database, or not in it
        raise BadInput(f"no time zone {name!r} is known on this machine, such as Asia/Seoul") from error


def day_of(at: int, zone: tzinfo) -> date:
    """The day to which this instant belongs."""
    return datetime.fromtimestamp(at, zone).date()


def begins_at(day: date, zone: tzinfo) -> int:
    """The first instant of a day, also where clocks are changed at midnight."""
    return int(datetime.combine(day, time(), zone).timestamp())


def read_day(text: str) -> date:
    """A day as `YYYY-MM-DD`, in no other spelling."""
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise BadInput("day: YYYY-MM-DD") from error
    if day.isoformat() != text or not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise BadInput(f"day: YYYY-MM-DD, {FIRST_YEAR} to {LAST_YEAR}")
    return day


def is_day(text: str) -> bool:
    """Whether `read_day` reads it."""
    try:
        read_day(text)
    except BadInput:
        return False
    return True
