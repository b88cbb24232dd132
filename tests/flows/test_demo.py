"""`hanbit demo --once --json`, as whoever looks at the project for the first time runs it: real processes, one JSON object, every proof."""

import json
import subprocess
import sys

from tests import engine

PATIENCE_S = 300
"""Far beyond what it takes: it only turns a hang into a failure."""
EXPECTED = {
    "paid": ("captured", None, 0),
    "amount_altered": ("refused", "amount_mismatch", 0),
    "order_altered": ("not_opened", "amount_mismatch", 0),
    "order_changed": ("refused", "withdrawn", 0),
    "no_funds": ("open", "no_funds", 0),
    "suspended": ("open", "account_suspended", 0),
    "cancelled": ("captured", None, 220_000),
    "partly_refunded": ("captured", None, 70_000),
    "dual_signature": ("captured", None, 0),
}


def test_every_case_of_the_demo_ends_as_it_must_and_its_evidence_is_judged_by_a_stranger() -> None:
    command = [sys.executable, "-m", "hanbit", "demo", "--once", "--json", "--database", engine.database()]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr.decode()
    report = json.loads(done.stdout)
    assert {row["case"]: (row["state"], row["reason"], row["refunded"]) for row in report["payments"]} == EXPECTED
    assert report["ledger"]["balanced"]
    found = report["evidence"]
    assert (found["verified"], found["tampered_copy_refused"], found["log"]["whole"]) == (True, True, True)
    assert found["file"]["verified"]
    assert [copy["failed"] for copy in found["file"]["tampered_copies"]].count(None) == 0
    assert any("cannot deny having confirmed cancellation" in line for line in found["file"]["conclusions"])
    # What is left to the shop: three telephones were paid, one and a part of another given back.
    assert report["balances"]["merchant:shop:KRW"] == 4 * 220_000 - 220_000 - 70_000
