"""A row of `mails` → the bytes of its letter: the same row under the same brand is always the same letter, down to its Message-ID.

Plain text, one part. Whatever stands in a header was checked when it was stored, and is checked again here: a line end ends no header.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from functools import cache
from typing import Any, Final

from hanbit.kernel.errors import BadInput
from hanbit.kernel.money import Money
from hanbit.parties.brand import Brand
from hanbit.settings import EMAIL, Settings
from hanbit.web.pages import Language, short_number
from hanbit.web.words import LanguageCode

SUBJECT_MAX: Final = 150


@dataclass(frozen=True, slots=True)
class Letter:
    """What is handed to the mail server: the envelope's two addresses and the bytes between."""

    id: str
    sender: str
    recipient: str
    content: bytes


def write(settings: Settings, brand: Brand, row: Mapping[str, Any], *, token: str) -> Letter:
    """The letter of this row, under the name that pages show; BadInput where an address or a subject could be more than one.

    `token` is the secret of its link, for a letter that has one.
    """
    sender, recipient = settings.mail_from, str(row["address"])
    if not EMAIL.fullmatch(sender) or not EMAIL.fullmatch(recipient):
        raise BadInput("address")
    code: LanguageCode = "en" if row["language"] == "en" else "ko"
    language = _language(code, settings.zone)
    operator = brand.name_en if code == "en" else brand.name_ko
    words = _words(settings, language, json.loads(row["facts"]) | {"token": token})
    words |= {"operator": operator, "telephone": brand.telephone}  # last: no fact takes their place
    subject = _said(language, f"mail.{row['kind']}.subject", words)
    if not subject.isprintable() or len(subject) > SUBJECT_MAX:
        raise BadInput("subject")
    message = EmailMessage(policy=SMTP)
    message["From"] = Address(display_name=operator, addr_spec=sender)
    message["To"] = recipient
    message["Subject"] = f"[{_said(language, 'mail.test', words)}] {subject}" if settings.is_test else subject
    message["Date"] = format_datetime(datetime.fromtimestamp(row["stored_at"], UTC))
    message["Message-ID"] = f"<{row['id']}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    body = "\n\n".join(_said(language, place, words) for place in ("mail.hello", f"mail.{row['kind']}.text", "mail.foot"))
    message.set_content(body + "\n", cte="base64")
    message["Content-Language"] = code
    return Letter(str(row["id"]), sender, recipient, message.as_bytes())


def _words(settings: Settings, language: Language, facts: dict[str, Any]) -> dict[str, str]:
    """Everything that a letter may say, by locale."""
    said = {name: str(value) for name, value in facts.items()}
    said["home"] = f"{settings.public_url}/my?lang={language.code}"
    said["security"] = f"{settings.public_url}/my/security?lang={language.code}"
    said["moment"] = language.moment(facts["at"])
    for name in ("amount", "returned", "returned_in_all"):
        if name in facts:
            said[name] = language.amount(Money(facts[name], facts["currency"]))
    if "payment" in facts:
        said["number"] = short_number(facts["payment"])
        said["page"] = f"{settings.public_url}/my/payments/{facts['payment']}?lang={language.code}"
        said["account"] = f"{language.words['kind.' + facts['account_kind']]} {facts['account']}" if facts["account"] else "-"
    if "key" in facts:
        said["key"] = language.words[f"mail.key.{facts['key']}"]
    if "of" in facts:
        said["of"] = f"{language.words['kind.' + facts['of']]} {facts['masked']}" if facts["of"] else language.words["mail.password.login"]
    said["link"] = f"{settings.public_url}/my/email/{facts['token']}?lang={language.code}"
    return said


def _said(language: Language, place: str, words: dict[str, str]) -> str:
    return language.words[place].format(**words)


@cache
def _language(code: LanguageCode, zone: tzinfo) -> Language:
    return Language.of(code, zone)
