"""The sample customers of a new sandbox: opened by the operator's own commands, written down in `DIR/sandbox.json`."""

import json
from pathlib import Path
from typing import Any, Final

from hanbit.folder import close_gateway, hold, open_gateway
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import BadInput
from hanbit.parties.keyring import write_secret
from hanbit.payments import operations
from hanbit.payments.gateway import Gateway
from hanbit.sandbox import magic, waiting

FILE: Final = "sandbox.json"
FILE_MAX: Final = 64 * 1024
NOTE: Final = "keys/READ-ME.txt"
NOTE_TEXT: Final = """This is the key folder of a Hanbit sandbox, a TEST operator.

root.key is the root's private key, unencrypted, and it may stay here: no certificate under it can ever stand for real money, because the
operator's id ends in -test in every one of them. Never use these keys, or a copy of them, for anything else.
"""


async def open_samples(folder: Path, clock: Clock) -> dict[str, Any]:
    """Open every magic customer and account in a new folder, and write down what somebody needs to use them."""
    with hold(folder):
        gateway = open_gateway(folder, clock)
        try:
            opened = await _open(gateway)
        finally:
            await close_gateway(gateway)
    write_secret(folder / FILE, json.dumps(opened, ensure_ascii=False, indent=2).encode("utf-8") + b"\n")
    write_secret(folder / NOTE, NOTE_TEXT.encode("utf-8"))
    return opened


def read(folder: Path) -> dict[str, Any]:
    """What `open_samples` wrote."""
    path = folder / FILE
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(FILE_MAX))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise BadInput(f"{path} is not what `hanbit init --sandbox` wrote")
    return found


async def _open(gateway: Gateway) -> dict[str, Any]:
    table = magic.as_json()
    for person in magic.PEOPLE:
        await operations.create_customer(gateway, login=person.login, name=person.name, password=person.password)
    accounts = []
    for account in magic.ACCOUNTS:
        made = await operations.create_account(
            gateway,
            login=account.login,
            kind=account.kind,
            number=account.number,
            password=account.password,
            credit_limit=str(account.credit_limit),
        )
        if account.balance:
            await operations.fund(gateway, account=made["account"], amount=str(account.balance), id=f"sandbox-{account.number}")
        if account.suspended:
            await operations.set_state(gateway, what="account", id=made["account"], state="suspended", reason="sandbox")
        accounts.append({"login": account.login, "kind": account.kind, "number": account.number, "account": made["account"]})
    for person in magic.PEOPLE:
        if person.suspended:
            await operations.set_state(gateway, what="customer", id=person.login, state="suspended", reason="sandbox")
    await waiting.keep_waiting(gateway)
    ids_of = {account["number"]: account["account"] for account in accounts}
    listed = [{**row, "account": ids_of[row["number"]]} for row in _rows(table["accounts"])]
    return {"test": True, "operator": gateway.settings.operator, **table, "accounts": listed}


def _rows(value: object) -> list[dict[str, Any]]:
    assert isinstance(value, list)
    return value
