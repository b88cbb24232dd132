"""The server that runs on the folder: does it answer, are merchants connected, does its clock agree with theirs."""

import asyncio
import http.client
import socket
import ssl
from collections.abc import Iterator
from statistics import median
from typing import Any

from hanbit import control
from hanbit.kernel.errors import HanbitError
from hanbit.settings import FILE
from hanbit.upkeep.doctor.findings import Finding, Patient, good, warning, wrong
from hanbit.upkeep.doctor.machine import FILES_LEAST

ANSWER_WITHIN_S = 3.0
OFFSET_WARNING_S = 30
OFFSET_AGREE = 2
"""So many merchants whose clocks agree with one another and not with ours mean that it is ours."""
WAITING_WARNING = 2_000
MERCHANTS_NAMED = 5


def server(patient: Patient) -> Iterator[Finding]:
    """Whether it can serve, or serves."""
    own = patient.settings
    if patient.holder is None:
        yield good("server", "server", "not running")
        places = (
            ("listen_port", own.listen_host, own.listen_port),
            ("line_port", own.line_host, own.line_port),
            ("line_post_port", own.line_host, own.line_post_port),
            ("leased_port", own.leased_host, own.leased_port),
            ("leased_post_port", own.leased_host, own.leased_post_port),
            ("metrics_port", "127.0.0.1", own.metrics_port),
        )
        for name, host, port in places:
            fault = _cannot_listen(host, port)
            if fault:
                advice = f"Stop whoever listens there, or change {name} in {patient.folder / FILE}"
                yield wrong("port_taken", "ports", f"{host}:{port}: {fault}", advice)
        return
    if own.listen_port:
        yield _ask_ready(patient)
    try:
        health = asyncio.run(asyncio.wait_for(control.send(patient.folder, "health", {}), ANSWER_WITHIN_S))
    except (HanbitError, TimeoutError) as error:
        found = f"process {patient.holder} holds the folder but does not answer at its control socket: {str(error) or 'no answer'}"
        yield wrong("control_silent", "server", found, "Restart it")
        return
    yield from _limits(health)
    yield from _lines(patient, health["lines"])


def _ask_ready(patient: Patient) -> Finding:
    host, port = patient.settings.listen_host, patient.settings.listen_port
    try:
        status = _get(host, port, "/readyz", secured=bool(patient.settings.tls_certificate))
    except (OSError, http.client.HTTPException) as error:
        found = f"process {patient.holder} holds the folder but does not answer at {host}:{port}: {error}"
        return wrong("server_silent", "server", found, "Restart it")
    if status != http.HTTPStatus.OK:
        found = f"process {patient.holder} is not ready ({status})"
        return wrong("server_not_ready", "server", found, "Look at its log, then restart it")
    return good("server", "server", f"process {patient.holder} is ready at {host}:{port}")


def _limits(health: dict[str, Any]) -> Iterator[Finding]:
    if health["waiting"] > WAITING_WARNING:
        advice = "Its disk is too slow for what comes in, or fails: look at the machine's own log"
        yield warning("book_queue", "server", f"{health['waiting']} changes wait for the book", advice)
    if health["open_files"] < FILES_LEAST:
        advice = f"Start it with a limit of {FILES_LEAST} or more (LimitNOFILE=)"
        yield warning("server_open_files", "server", f"it may open {health['open_files']} files", advice)


def _lines(patient: Patient, lines: dict[str, dict[str, Any]]) -> Iterator[Finding]:
    there = {merchant: line for merchant, line in lines.items() if line["up"]}
    away = sorted(lines.keys() - there.keys())
    if lines and not there:
        advice = f"Nobody can pay now; shops dial port {patient.settings.line_port}: is it reachable for them?"
        yield warning("line_down", "line", "no merchant is connected", advice)
    else:
        connections = sum(line["connections"] for line in there.values())
        yield good("line", "line", f"{len(there)} of {len(lines)} merchants, {connections} connections")
        for merchant in away[:MERCHANTS_NAMED]:
            found = f"{merchant} is not connected" + (f": {lines[merchant]['reason']}" if lines[merchant]["reason"] else "")
            yield warning("merchant_away", "line", found, "Nobody can pay there now; ask the merchant whether its shop runs")
        if len(away) > MERCHANTS_NAMED:
            yield warning("merchant_away", "line", f"{len(away) - MERCHANTS_NAMED} more are not", "Look for what they have in common")
    offsets = {merchant: line["offset_s"] for merchant, line in lines.items() if line["offset_s"] is not None}
    far = {merchant: offset for merchant, offset in offsets.items() if abs(offset) > OFFSET_WARNING_S}
    if len(far) >= OFFSET_AGREE and abs(median(offsets.values())) > OFFSET_WARNING_S:
        found = f"this machine is {median(offsets.values()):+.0f} s from {len(far)} of {len(offsets)} connected merchants"
        yield wrong("clock_offset", "clock", found, "Correct this machine's clock (timedatectl), then restart the server")
        return
    for merchant, offset in sorted(far.items()):
        advice = "Ask the merchant to correct its clock; beyond 60 s its line counts as down"
        yield warning("merchant_clock", "clock", f"{merchant}'s is {offset:+d} s from ours", advice)


def _get(host: str, port: int, path: str, *, secured: bool) -> int:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - what is listened on, not where we listen
    connection: http.client.HTTPConnection
    if secured:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = (
            False,
            ssl.CERT_NONE,
        )  # the certificate is looked at by itself; this asks for a sign of life
        connection = http.client.HTTPSConnection(reachable, port, timeout=ANSWER_WITHIN_S, context=context)
    else:
        connection = http.client.HTTPConnection(reachable, port, timeout=ANSWER_WITHIN_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def _cannot_listen(host: str, port: int) -> str | None:
    if not port:
        return None
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            return error.strerror or str(error)
    return None
