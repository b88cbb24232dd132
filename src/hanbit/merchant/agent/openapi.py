"""The OpenAPI 3.1 description, drawn from the table of addresses and from the structs that validate what comes."""

import re
from functools import cache
from typing import Any, Final

import msgspec

from hanbit import __version__
from hanbit.merchant.agent import shapes
from hanbit.merchant.agent.confirm import Question
from hanbit.merchant.agent.faults import PROBLEM_TYPE, Problem
from hanbit.merchant.agent.outbox import Event, TrialData
from hanbit.merchant.agent.settings import CONFIRM, TEST, TOLD
from hanbit.merchant.agent.table import ADDRESSES, Address

EXAMPLE: Final = {
    "lines": [{"item": "IM-1100", "quantity": 1, "price_minor": 220000}],
    "amount": "220000",
    "currency": "KRW",
    "text": "IM-1100",
    "return_url": "https://shop.example/orders",
    "language": "ko",
}
_REF: Final = "#/components/schemas/{name}"
_WHY: Final = {
    400: "The grammar of a field, a query, a header or the body is not met.",
    401: "The token is missing or wrong.",
    403: "The Host is not this computer's, or a browser calls on behalf of a web page.",
    404: "No such thing here.",
    405: "The path has no such method.",
    408: "The body was not complete in time.",
    409: "The state does not allow it, or the Idempotency-Key is taken or still at work.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    429: "Too many at once; again after Retry-After.",
    503: "Nothing is lost; send the same request again after Retry-After.",
}
_READS: Final = (400, 401, 403, 503)
_WRITES: Final = (400, 401, 403, 408, 409, 413, 415, 503)
_SAYS: Final = '{"confirm": true}, or {"confirm": false, "message": {"ko", "en"}}; within three seconds. Anything else refuses.'
_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "New for each act, the same for each retry of it; kept for 24 hours.",
    "schema": {"type": "string", "pattern": r"^[\x21-\x7e]{1,200}$"},
}


@cache
def description() -> bytes:
    """The JSON that /openapi.json answers."""
    return msgspec.json.encode(document())


def document() -> dict[str, Any]:
    """The description as an object."""
    kinds: set[type] = {Problem, Question}
    for address in ADDRESSES:
        kinds |= {address.answer, address.query} | ({address.body} if address.body is not None else set())
    events = (Event[shapes.OrderView], Event[TrialData])
    (of_an_order, of_a_test, *_), schemas = msgspec.json.schema_components(
        [*events, *sorted(kinds, key=lambda kind: kind.__name__)], ref_template=_REF
    )
    queries = {address.query.__name__ for address in ADDRESSES}
    question = {"$ref": _REF.format(name=Question.__name__)}
    told_again = "Taken; anything else is told again for three days."
    paths: dict[str, dict[str, Any]] = {}
    for address in ADDRESSES:
        paths.setdefault(address.path, {})[address.method.lower()] = _operation(address, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Hanbit merchant agent",
            "version": __version__,
            "summary": "Orders, outcomes and call-backs for a shop in any language.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"token": []}],
        "paths": paths,
        "webhooks": {
            **{kind: _webhook(kind, of_an_order, "2XX", told_again) for kind in TOLD},
            TEST: _webhook(TEST, of_a_test, "2XX", told_again),
            CONFIRM: _webhook(CONFIRM, question, "200", _SAYS),
        },
        "components": {
            "schemas": {name: schema for name, schema in schemas.items() if name not in queries},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(address: Address, schemas: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(address),
        "summary": address.summary,
        "parameters": _parameters(address, schemas),
        "responses": _responses(address),
    }
    if address.is_open:
        operation["security"] = []
    if address.body is not None:
        needed = any(field.required for field in msgspec.structs.fields(address.body))
        schema = {"$ref": _REF.format(name=address.body.__name__)}
        content: dict[str, Any] = {"schema": schema}
        if address.body is shapes.NewOrder:
            content["example"] = EXAMPLE
        operation["requestBody"] = {"required": needed, "content": {"application/json": content}}
    return operation


def _parameters(address: Address, schemas: dict[str, Any]) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}}
        for name in re.findall(r"{(\w+)}", address.path)
    ]
    for name, schema in schemas[address.query.__name__]["properties"].items():
        plain = next((kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}), schema)  # a query has no null
        parameters.append({"name": name, "in": "query", "required": False, "schema": {k: v for k, v in plain.items() if k != "default"}})
    if address.writes:
        parameters.append(_KEY)
    return parameters


def _responses(address: Address) -> dict[str, Any]:
    good: dict[str, Any] = {
        "description": (address.answer.__doc__ or "").strip(),
        "content": {"application/json": {"schema": {"$ref": _REF.format(name=address.answer.__name__)}}},
    }
    if address.writes:
        good["headers"] = {
            "Idempotent-Replayed": {"description": "true: this is the first request's answer.", "schema": {"type": "string"}}
        }
    links = _links(address)
    if links:
        good["links"] = links
    refusals = set(_READS if address.body is None else _WRITES) | set(address.refusals)
    problem = {PROBLEM_TYPE: {"schema": {"$ref": _REF.format(name=Problem.__name__)}}}
    return {
        str(address.status): good,
        **{
            str(status): {"description": _WHY[status], "content": problem}
            for status in sorted(refusals)
            if not (address.is_open and status == 401)  # noqa: PLR2004 - an open call needs no token
        },
    }


def _links(address: Address) -> dict[str, Any]:
    """What can be asked with the id in this answer."""
    source = {shapes.Placed: ("{tid}", "$response.body#/tid"), shapes.DeliveryList: ("{id}", "$response.body#/deliveries/0/id")}
    placeholder, expression = source.get(address.answer, ("", ""))
    if not placeholder or not address.writes:
        return {}
    return {
        _operation_id(other): {"operationId": _operation_id(other), "parameters": {placeholder.strip("{}"): expression}}
        for other in ADDRESSES
        if placeholder in other.path
    }


def _operation_id(address: Address) -> str:
    return re.sub(r"[^a-z]+", "_", f"{address.method} {address.path}".lower()).strip("_")


def _webhook(kind: str, body: dict[str, Any], status: str, means: str) -> dict[str, Any]:
    headers = [
        {"name": name, "in": "header", "required": True, "schema": {"type": "string"}}
        for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
    ]
    return {
        "post": {
            "operationId": kind.replace(".", "_"),
            "summary": f"The call-back {kind}, in the form of Standard Webhooks.",
            "parameters": headers,
            "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
            "responses": {status: {"description": means}},
        }
    }
