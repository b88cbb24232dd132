"""What a shop or a customer installs (`pip install hanbit`) works without any package of the server."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
IMPORT_NAMES = {"argon2-cffi": "argon2", "prometheus-client": "prometheus_client", "psycopg": "psycopg", "sqlalchemy": "sqlalchemy"}

WITHOUT_THE_SERVER = """
import importlib.abc, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(name, name=name)
        return None

sys.meta_path.insert(0, Blocker())
import hanbit.merchant.agent.serve
import hanbit.merchant.enrolment, hanbit.merchant.return_page, hanbit.merchant.shop, hanbit.wallet.enrol, hanbit.wallet.pay
from hanbit.cli import main
main(["wallet", "--help"], standalone_mode=False)
main(["merchant", "enrol", "--help"], standalone_mode=False)
main(["merchant", "serve", "--help"], standalone_mode=False)
"""


def test_shop_and_wallet_need_no_package_of_the_server() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    names = {re.split(r"[\[>=<~!;]", entry)[0] for entry in (*extras["server"], *extras["postgresql"])}
    blocked = {IMPORT_NAMES.get(name, name) for name in names}
    assert {"starlette", "uvicorn", "sqlalchemy", "argon2", "webauthn"} <= blocked
    result = subprocess.run([sys.executable, "-c", WITHOUT_THE_SERVER.format(blocked=blocked)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "Example" in result.stdout
