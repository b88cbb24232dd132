"""Every setting of the payment server: its type, its default and why; read from `hanbit.toml` in the data folder."""

import ipaddress
import re
import tomllib
from dataclasses import dataclass, field, fields
from datetime import tzinfo
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hanbit.kernel import ids
from hanbit.kernel.days import zone_of
from hanbit.kernel.errors import BadInput
from hanbit.kernel.money import AMOUNT_MAX, CURRENCY_EXPONENTS

FILE = "hanbit.toml"
FILE_MAX = 64 * 1024
NAME_MAX = 60
TELEPHONE = re.compile(r"\+?[0-9][0-9 -]{2,20}")
RANGES: dict[str, tuple[float, float]] = {
    "listen_port": (0, 65_535),
    "line_port": (0, 65_535),
    "line_post_port": (0, 65_535),
    "leased_port": (0, 65_535),
    "leased_post_port": (0, 65_535),
    "metrics_port": (0, 65_535),
    "internal_port": (0, 65_535),
    "operator_port": (0, 65_535),
    "merchant_port": (0, 65_535),
    "password_workers": (1, 64),
    "password_waiting_max": (0, 10_000),
    "notice_wait_s": (0.01, 60),
    "inquiries_per_minute": (1, 1_000_000),
    "refusals_per_minute": (1, 1_000_000),
    "unsigned_limit_minor": (0, AMOUNT_MAX),
    "session_idle_s": (30, 3_600),
    "connections_max": (10, 100_000),
    "connections_per_address": (1, 100_000),
    "handshakes_max": (10, 100_000),
    "smtp_port": (1, 65_535),
}
"""The least and the most of every figure."""
CHOICES: dict[str, tuple[str, ...]] = {
    "currency": tuple(CURRENCY_EXPONENTS),
    "refund_shortfall": ("refuse", "reserve"),
    "smtp_tls": ("starttls", "tls", "off"),
}
"""What a setting of a few words may be."""
PLAIN_HTTPS = re.compile(r"https://[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/-]{0,300})?")
"""An address that a page may link to."""


DATABASE = re.compile(r"postgres(?:ql)?://")
INTERFACE = re.compile(r"[A-Za-z0-9_.-]{1,15}")
EMAIL = re.compile(
    r"(?=.{3,254}\Z)[A-Za-z0-9_+-](?:[A-Za-z0-9._+-]{0,62}[A-Za-z0-9_+-])?"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)
"""An address that mail is sent to or from: nothing in it can end a header or begin another address."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator may set; everything has a default that is safe on one machine."""

    operator: str = "demo"
    """The operator's id in every certificate and message; cannot change once certificates were issued."""
    name_ko: str = "한빛은행"
    name_en: str = "Hanbit Bank"
    """The name that heads every page."""
    telephone: str = "1588-0000"
    """Shown on every page: whom to call."""
    currency: str = "KRW"
    """The book's main currency (ISO 4217)."""
    time_zone: str = "Asia/Seoul"
    """Where the operator's days begin and end: what is closed and settled is a day of this zone."""
    checkouts: list[str] = field(default_factory=lambda: ["redirect"])
    """Which checkouts are offered; see NOTICE."""
    database: str = ""
    """The book's PostgreSQL database, postgresql://…; empty: a SQLite file in the data folder. A password in it is as safe as this file
    (0600); libpq's own places for one (a password file, PGPASSWORD, a service) work too. Written by `hanbit init` and `hanbit migrate`."""
    public_url: str = "http://pay.localhost:8400"
    """The address that customers see; no Host header decides anything."""
    listen_host: str = "127.0.0.1"
    listen_port: int = 8400
    """Where the customers' pages listen."""
    tls_certificate: str = ""
    """PEM file of the site's certificate and the authorities above it; with it `listen_port` speaks TLS. Relative to the data folder."""
    tls_key: str = ""
    """PEM file of its private key, 0600, without a passphrase. Both files are read again when they change."""
    trusted_proxies: list[str] = field(default_factory=list)
    """Addresses or networks of our own reverse proxies: only what they say in X-Forwarded-For and X-Forwarded-Proto counts."""
    connections_max: int = 2_000
    """Customers' connections at once; one more is told to come again."""
    connections_per_address: int = 100
    """Connections and requests at once of one client address (in IPv6 of one /64 network); a trusted proxy's clients are counted singly."""
    handshakes_max: int = 256
    """TLS handshakes under way at once; a further one takes the place of the oldest, which is the one most likely to be silent."""
    line_host: str = "127.0.0.1"
    line_port: int = 8401
    """Where the private line listens (TLS 1.3, both sides certified)."""
    line_public_host: str = ""
    """The host that enrolment tells merchants to dial; `line_host` if empty. Needed where the line listens on every address (0.0.0.0)."""
    line_post_port: int = 0
    """Where merchants' frames come in by HTTPS POST, beside the line's connections; 0 turns it off."""
    several_machines: bool = False
    """Servers on other machines, each with a copy of this folder's settings and keys, work on the same book: new keys of our own
    travel to them in the book, sealed under the secret in `keys/server.key`. Needs `database`."""
    internal_host: str = "127.0.0.1"
    internal_port: int = 0
    """Where processes of this gateway reach one another (TLS 1.3, our own certificate at both ends); with several machines an address
    that the others can reach. Port 0 takes a free one, for each process its own."""
    leased_host: str = ""
    """The IP address on which leased lines come in; its own, not the customers' nor the vpn line's."""
    leased_port: int = 0
    """Where leased lines come in; 0 turns them off."""
    leased_post_port: int = 0
    """POST on leased lines, always with TLS; 0 turns it off."""
    leased_tls: bool = True
    """TLS on leased lines too; without it the merchant is known by its pinned address and by what it signs."""
    leased_interface: str = ""
    """The network interface of leased lines: what comes in by another finds no port there. Empty: any, and the pinned addresses decide."""
    operator_host: str = "127.0.0.1"
    operator_port: int = 0
    """Where the operator's console listens; 0 turns it off. Staff come to the loopback address by a tunnel or the operator's proxy."""
    operator_url: str = "http://console.localhost:8410"
    """The address that staff see; a host of its own, because browsers share cookies and passkeys among all ports of one host."""
    merchant_host: str = "127.0.0.1"
    merchant_port: int = 0
    """Where the merchants' console listens; 0 turns it off."""
    merchant_url: str = "http://merchant.localhost:8411"
    """The address that merchants' people see; a host of its own as well."""
    metrics_port: int = 0
    """Loopback port of /metrics; 0 turns it off."""
    password_workers: int = 2
    """Threads that hash passwords: 19 MiB and a core each while they run."""
    password_waiting_max: int = 32
    """Log-ins that may wait for a password worker; beyond it 503 and Retry-After."""
    notice_wait_s: float = 4.0
    """How long the page waits for the merchant before it says "in progress"."""
    inquiries_per_minute: int = 1_200
    """Frames that a merchant may send unasked and that are kept (inquiries, acknowledgements of nothing that waits); `too_many` beyond."""
    refusals_per_minute: int = 60
    """Refused frames of one merchant that are kept with their reason; what is beyond is answered `too_many` and leaves no row."""
    unsigned_limit_minor: int = 1_000_000
    """The largest payment by password or code, in minor units; above it the customer must sign (passkey or device key)."""
    refund_shortfall: str = "refuse"
    """What happens where a merchant's account cannot cover a refund: "refuse" it, or lend from the operator's "reserve"."""
    session_idle_s: int = 300
    """A customer's session ends after so long without a request."""
    sandbox: bool = False
    """A test operator: magic accounts and amounts, a clock that moves. Written by `hanbit init --sandbox`; its id ends in -test,
    and the book says it too, so that no folder becomes one or ceases to be one."""
    test_mode: bool = False
    """Every page says that no real money moves; set by the demo, never where there is real money."""
    terms_url: str = ""
    """The operator's terms, linked at the foot of every page (https, or empty)."""
    open_account_url: str = ""
    """Where somebody without an account gets one (https, or empty)."""

    smtp_host: str = ""
    """The mail server that takes customers' letters (paid, refunded, a new key, a changed password); empty: nobody is written to."""
    smtp_port: int = 587
    smtp_tls: str = "starttls"
    """How the way to it is encrypted: "starttls" (587), "tls" from the first byte (465), or "off", which is for this very machine only.
    Nothing is sent in clear where the server offers no TLS."""
    smtp_ca: str = ""
    """PEM file of the authority that certified it, an absolute path; empty: those that this machine trusts."""
    smtp_user: str = ""
    smtp_password: str = field(default="", repr=False)
    """Who we are to it; both, or neither. The password is as safe as this file (0600)."""
    mail_from: str = ""
    """The address that letters come from; needed with `smtp_host`."""

    def __post_init__(self) -> None:
        ids.check(ids.PARTY_ID, self.operator, "operator: 1 to 32 of a-z, 0-9 and inner hyphens")
        if self.sandbox != ids.is_test(self.operator):
            raise BadInput(f"operator: the id of a sandbox ends in {ids.TEST_ENDING}, and of nobody else (hanbit init --sandbox)")
        if "redirect" not in self.checkouts or not set(self.checkouts) <= {"redirect"}:
            raise BadInput('checkouts: ["redirect"]')
        for name, text in (("name_ko", self.name_ko), ("name_en", self.name_en)):
            if not 1 <= len(text.strip()) <= NAME_MAX or not text.isprintable():
                raise BadInput(f"{name}: 1 to {NAME_MAX} printable characters")
        if not TELEPHONE.fullmatch(self.telephone):
            raise BadInput("telephone: 3 to 21 digits, spaces and hyphens")
        _check_choices(self)
        _check_hosts(self)
        for name, (least, most) in RANGES.items():
            if not least <= getattr(self, name) <= most:
                raise BadInput(f"{name}: {least} to {most}")
        for name, url in (("terms_url", self.terms_url), ("open_account_url", self.open_account_url)):
            if url and not PLAIN_HTTPS.fullmatch(url):
                raise BadInput(f"{name}: https://… or empty")
        for name in ("public_url", "operator_url", "merchant_url"):
            _check_public_url(name, getattr(self, name))
        _check_consoles(self)
        _check_leased(self)
        _check_tls(self)
        _check_mail(self)

    @property
    def zone(self) -> tzinfo:
        """The zone of `time_zone`: of the operator's days, and of every time that a page or sheet shows."""
        return zone_of(self.time_zone)

    @property
    def is_test(self) -> bool:
        """No real money moves, and every page says so."""
        return self.test_mode or self.sandbox

    @property
    def gateway_urn(self) -> str:
        """The payment server's name in certificates and messages."""
        return ids.urn(self.operator, "gateway")

    @property
    def customer_urn(self) -> str:
        """Any customer of this operator, as audience of `keys` and `receipt`."""
        return ids.urn(self.operator, "customer")

    @property
    def line_dialled(self) -> str:
        """The host that merchants dial."""
        return self.line_public_host or self.line_host

    def merchant_urn(self, merchant_id: str) -> str:
        """A merchant's name in certificates and messages."""
        return ids.urn(self.operator, "merchant", merchant_id)


def load(folder: Path) -> Settings:
    """Read the folder's `hanbit.toml`; an unknown name or wrong type is BadInput that says which."""
    path = folder / FILE
    try:
        if path.stat().st_size > FILE_MAX:
            raise BadInput(f"{path} is larger than {FILE_MAX} bytes")
        found: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"{folder} is no data folder: {FILE} is missing (make one with: hanbit init {folder})") from error
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, or an integer of 5,000 digits
        raise BadInput(f"{path}: {error}") from error
    defaults = Settings()
    known = {item.name for item in fields(Settings)}
    for name, value in found.items():
        if name not in known:
            raise BadInput(f"{path}: unknown setting {name!r}")
        expected = type(getattr(defaults, name))
        if type(value) is not expected and not (expected is float and type(value) is int):
            raise BadInput(f"{path}: {name} must be {expected.__name__}")
        if expected is list and not all(isinstance(entry, str) for entry in value):
            raise BadInput(f"{path}: {name} must be a list of texts")
    try:
        return Settings(**found)
    except BadInput as error:
        raise BadInput(f"{path}: {error.detail}") from error


def dump(settings: Settings) -> str:
    """The settings as `hanbit.toml`."""
    lines = []
    for item in fields(Settings):
        value = getattr(settings, item.name)
        if isinstance(value, bool):
            text = str(value).lower()
        elif isinstance(value, list):
            text = "[" + ", ".join(f'"{entry}"' for entry in value) + "]"
        elif isinstance(value, str):
            text = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        else:
            text = str(value)
        lines.append(f"{item.name} = {text}")
    return "\n".join(lines) + "\n"


def _check_leased(settings: Settings) -> None:
    """A leased line has an address of its own, so that nothing of the customers' side can be a way to it."""
    if settings.leased_interface and not INTERFACE.fullmatch(settings.leased_interface):
        raise BadInput("leased_interface: a network interface, such as eth1")
    if not settings.leased_host:
        if settings.leased_port or settings.leased_post_port:
            raise BadInput("leased_host: the IP address of the interface on which leased lines come in")
        return
    try:
        address = ip_address(settings.leased_host)
    except ValueError as error:
        raise BadInput("leased_host: an IP address") from error
    if address.is_unspecified or settings.leased_host in (settings.listen_host, settings.line_host):
        raise BadInput("leased_host: an address of its own, not every one, nor listen_host or line_host")


def _check_hosts(settings: Settings) -> None:
    for name in ("listen_host", "line_host", "line_public_host", "internal_host", "operator_host", "merchant_host"):
        host = settings.line_dialled if name == "line_public_host" else getattr(settings, name)
        if not host or not host.isascii() or not host.isprintable() or " " in host:
            raise BadInput(f"{name}: an address of this machine, such as 127.0.0.1")


def _check_choices(settings: Settings) -> None:
    for name, choices in CHOICES.items():
        if getattr(settings, name) not in choices:
            raise BadInput(f"{name}: one of {', '.join(choices)}")
    try:
        zone_of(settings.time_zone)
    except BadInput as error:
        raise BadInput(f"time_zone: {error.detail}") from error
    if settings.database and (not DATABASE.match(settings.database) or not settings.database.isprintable()):
        raise BadInput("database: postgresql://USER@HOST/DATABASE, or empty for a file in the data folder")
    if settings.several_machines and not settings.database:
        raise BadInput("several_machines: needs a PostgreSQL database; a file in the data folder is one machine's (hanbit migrate)")


def _check_mail(settings: Settings) -> None:
    """Fail closed: no half of an account, no letter in clear over a network, no address that could be more than one."""
    if not settings.smtp_host:
        if settings.mail_from or settings.smtp_user or settings.smtp_password:
            raise BadInput("smtp_host: the mail server; without one nobody is written to")
        return
    host = settings.smtp_host
    if not host.isascii() or not host.isprintable() or " " in host:
        raise BadInput("smtp_host: the name or address of the mail server")
    if settings.smtp_tls == "off" and host not in {"localhost", "127.0.0.1", "::1"}:
        raise BadInput('smtp_tls: "off" is for a mail server on this very machine')
    if not EMAIL.fullmatch(settings.mail_from):
        raise BadInput("mail_from: the address that letters come from, such as no-reply@bank.example")
    if bool(settings.smtp_user) != bool(settings.smtp_password):
        raise BadInput("smtp_user and smtp_password: both, or neither")
    if settings.smtp_ca and not Path(settings.smtp_ca).is_absolute():
        raise BadInput("smtp_ca: an absolute path")


def _check_consoles(settings: Settings) -> None:
    """Each face has a host of its own, so that no page of one sees a cookie or passkey of another."""
    hosts = [urlsplit(settings.public_url).hostname]
    hosts += [urlsplit(url).hostname for url, port in _consoles(settings) if port]
    if len(set(hosts)) != len(hosts):
        raise BadInput("public_url, operator_url and merchant_url: a host of its own for each; another port alone is not enough")


def _consoles(settings: Settings) -> tuple[tuple[str, int], ...]:
    return (settings.operator_url, settings.operator_port), (settings.merchant_url, settings.merchant_port)


def _check_public_url(name: str, url: str) -> None:
    """https, or http under .localhost; nothing but scheme, host and port, because addresses are made by adding to it."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise BadInput(f"{name}: no address") from error
    host = parts.hostname or ""
    local = host in {"localhost", "127.0.0.1", "::1"} or host.endswith(".localhost")
    bare = url == f"{parts.scheme}://{parts.netloc}" and "@" not in parts.netloc and url.isascii() and url.isprintable() and " " not in url
    if not bare or not host or host.endswith(".") or parts.scheme not in ({"https", "http"} if local else {"https"}):
        raise BadInput(f"{name}: https://HOST or https://HOST:PORT and nothing after it (http only under .localhost)")


def _check_tls(settings: Settings) -> None:
    """Who ends TLS on the customers' side: this server, with both files, or a proxy that is named by its address."""
    if bool(settings.tls_certificate) != bool(settings.tls_key):
        raise BadInput("tls_certificate and tls_key: both, or neither")
    if settings.tls_certificate and not settings.public_url.startswith("https://"):
        raise BadInput("public_url: https://… where there is a tls_certificate")
    for entry in settings.trusted_proxies:
        try:
            ipaddress.ip_network(entry)
        except ValueError as error:
            raise BadInput(f"trusted_proxies: {error}") from error
