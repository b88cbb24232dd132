"""Every setting of the payment server: its type, its default and why; read from `hanbit.toml` in the data folder."""

import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput

FILE = "hanbit.toml"


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
    checkouts: list[str] = field(default_factory=lambda: ["redirect"])
    """Which checkouts are offered; see NOTICE."""
    public_url: str = "http://pay.localhost:8400"
    """The address that customers see; no Host header decides anything."""
    listen_host: str = "127.0.0.1"
    listen_port: int = 8400
    """Where the customers' pages listen."""
    line_host: str = "127.0.0.1"
    line_port: int = 8401
    """Where merchants dial the private line (TLS 1.3, both sides certified)."""
    metrics_port: int = 0
    """Loopback port of /metrics; 0 turns it off."""
    password_workers: int = 2
    """Threads that hash passwords: 19 MiB and a core each while they run."""
    password_waiting_max: int = 32
    """Log-ins that may wait for a password worker; beyond it 503 and Retry-After."""
    notice_wait_s: float = 4.0
    """How long the page waits for the merchant before it says "in progress"."""
    unsigned_limit_minor: int = 1_000_000
    """The largest payment by password or code, in minor units; above it the customer must sign (passkey or device key)."""
    session_idle_s: int = 300
    """A customer's session ends after so long without a request."""

    def __post_init__(self) -> None:
        ids.check(ids.PARTY_ID, self.operator, "operator: 1 to 32 of a-z, 0-9 and inner hyphens")
        if "redirect" not in self.checkouts or not set(self.checkouts) <= {"redirect"}:
            raise BadInput('checkouts: ["redirect"]')

    @property
    def gateway_urn(self) -> str:
        """The payment server's name in certificates and messages."""
        return ids.urn(self.operator, "gateway")

    @property
    def customer_urn(self) -> str:
        """Any customer of this operator, as audience of `keys` and `receipt`."""
        return ids.urn(self.operator, "customer")

    def merchant_urn(self, merchant_id: str) -> str:
        """A merchant's name in certificates and messages."""
        return ids.urn(self.operator, "merchant", merchant_id)


def load(folder: Path) -> Settings:
    """Read the folder's `hanbit.toml`; an unknown name or wrong type is BadInput that says which."""
    path = folder / FILE
    try:
        found: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"{folder} is no data folder: {FILE} is missing (make one with: hanbit init {folder})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: {error}") from error
    defaults = Settings()
    known = {item.name for item in fields(Settings)}
    for name, value in found.items():
        if name not in known:
            raise BadInput(f"{path}: unknown setting {name!r}")
        expected = type(getattr(defaults, name))
        if type(value) is not expected and not (expected is float and type(value) is int):
            raise BadInput(f"{path}: {name} must be {expected.__name__}")
    return Settings(**found)


def dump(settings: Settings) -> str:
    """The settings as `hanbit.toml`."""
    lines = []
    for item in fields(Settings):
        value = getattr(settings, item.name)
        if isinstance(value, list):
            text = "[" + ", ".join(f'"{entry}"' for entry in value) + "]"
        elif isinstance(value, str):
            text = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        else:
            text = str(value)
        lines.append(f"{item.name} = {text}")
    return "\n".join(lines) + "\n"
