"""The wallet's folder: private, whole after a crash, and never moved from one root to another by a file alone."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hanbit.crypto import keys
from hanbit.kernel.errors import BadInput, Conflict
from hanbit.wallet.store import Enrolment, Store, read_root, read_root_file, thumbprint
from tests.unit.wallet.parties import AT, DAY_S, Operator, bank, forger, other_bank


def enrolment(operator: Operator, name: str = "hong") -> Enrolment:
    device = operator.customer(name)
    return Enrolment("https://pay.example", device.urn, device, AT + 90 * DAY_S, b"s" * 32)


def read_everything(store: Store) -> None:
    """Pin and enrolment of the bank."""
    store.pin("bank")
    store.enrolment("bank")


def kept(store: Store, name: str = "hong") -> Enrolment:
    made = enrolment(bank(), name)
    store.enrol("bank", made, made.device.key)
    return made


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "wallet")


def test_everything_in_the_folder_is_for_its_owner_only(store: Store) -> None:
    store.trust(bank().root, AT)
    kept(store)
    store.keep_receipt("bank", "P" * 22, "a.b.c")
    paths = [store.folder, *store.folder.rglob("*")]
    assert len(paths) == 8
    for path in paths:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_what_was_stored_comes_back(store: Store) -> None:
    store.trust(bank().root, AT)
    made = kept(store)
    again = Store(store.folder)
    assert again.operators() == ("bank",)
    assert (again.pin("bank").root, again.pin("bank").gateway) == (bank().root, "urn:hanbit:bank:gateway")
    found = again.enrolment("bank")
    assert found is not None
    assert (found.customer, found.origin, found.secret, found.device.chain) == (made.customer, made.origin, made.secret, made.device.chain)
    assert keys.public_point(found.device.key.public_key()) == keys.public_point(made.device.key.public_key())


def test_second_root_under_the_same_name_is_refused(store: Store) -> None:
    store.trust(bank().root, AT)
    store.trust(bank().root, AT)
    with pytest.raises(Conflict):
        store.trust(forger().root, AT)
    assert store.pin("bank").root == bank().root


def test_roots_of_two_operators_live_side_by_side(store: Store) -> None:
    store.trust(bank().root, AT)
    store.trust(other_bank().root, AT)
    assert store.operators() == ("bank", "otherbank")


@pytest.mark.parametrize(
    "unverified", [b"", b"x" * 100, bank().seal, bank().gateway.chain[0], bank().gateway_authority.chain[0], bank().root[:-1]]
)
def test_only_a_root_of_our_profile_is_trusted(store: Store, unverified: bytes) -> None:
    with pytest.raises(BadInput):
        store.trust(unverified, AT)
    assert store.operators() == ()


def test_root_that_has_expired_is_not_trusted(store: Store) -> None:
    with pytest.raises(BadInput):
        store.trust(bank().root, AT + 21 * 366 * DAY_S)


def test_operator_that_is_not_trusted_has_no_pin(store: Store) -> None:
    for name in ("bank", "../bank", ""):
        with pytest.raises(BadInput):
            store.pin(name)


def test_root_is_read_from_pem_and_der(tmp_path: Path) -> None:
    der, pem, two, empty = (tmp_path / name for name in ("root.der", "root.pem", "two.pem", "empty.pem"))
    der.write_bytes(bank().root)
    text = x509.load_der_x509_certificate(bank().root).public_bytes(Encoding.PEM)
    pem.write_bytes(text)
    two.write_bytes(text * 2)
    empty.write_bytes(b"-----BEGIN CERTIFICATE-----\n")
    assert read_root_file(der) == read_root_file(pem) == bank().root
    assert read_root(bank().root, AT) == "bank"
    for path in (two, empty, tmp_path / "missing"):
        with pytest.raises(BadInput):
            read_root_file(path)


def test_thumbprint_is_the_hash_that_openssl_prints(tmp_path: Path) -> None:
    assert len(thumbprint(bank().root)) == 79
    assert thumbprint(bank().root) != thumbprint(forger().root)


def test_new_enrolment_erases_the_old_key(store: Store) -> None:
    store.trust(bank().root, AT)
    kept(store)
    second = kept(store, "kim")
    names = sorted(path.name for path in (store.folder / "bank").glob("*-*"))
    assert names == [f"code-{second.device.kid}.secret", f"device-{second.device.kid}.pem"]
    found = store.enrolment("bank")
    assert found is not None
    assert found.customer.endswith(":kim")


def test_crash_before_the_last_file_leaves_the_old_enrolment(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.trust(bank().root, AT)
    first = kept(store)
    rename = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if target.name == "enrolment.json":
            raise OSError("power lost")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="power lost"):
        kept(store, "kim")
    found = store.enrolment("bank")
    assert found is not None
    assert found.customer == first.customer
    assert not list(store.folder.rglob(".*")), "nothing half written stays"


@pytest.mark.parametrize("name", ["enrolment.json", "root.der"])
def test_file_that_others_may_read_is_refused(store: Store, name: str) -> None:
    store.trust(bank().root, AT)
    kept(store)
    (store.folder / "bank" / name).chmod(0o640)
    with pytest.raises(BadInput, match="chmod 600"):
        read_everything(store)


def test_folder_that_others_may_read_is_refused(store: Store) -> None:
    store.folder.mkdir(mode=0o755)
    store.folder.chmod(0o755)
    with pytest.raises(BadInput, match="chmod 700"):
        store.trust(bank().root, AT)


@pytest.mark.parametrize(
    "damage",
    [b"", b"{}", b"null", b"\xff", b'{"origin":"https://pay.example","customer":"c","chain":[],"not_after":1}', b"x" * 70_000],
)
def test_damaged_enrolment_says_what_to_do(store: Store, damage: bytes) -> None:
    store.trust(bank().root, AT)
    kept(store)
    path = store.folder / "bank" / "enrolment.json"
    path.write_bytes(damage)
    with pytest.raises(BadInput):
        store.enrolment("bank")


@pytest.mark.parametrize("damage", [b"", b"short", b"\xff\xff"])
def test_lost_secret_says_what_to_do(store: Store, damage: bytes) -> None:
    store.trust(bank().root, AT)
    made = kept(store)
    (store.folder / "bank" / f"code-{made.device.kid}.secret").write_bytes(damage)
    with pytest.raises(BadInput, match="enrol again"):
        store.enrolment("bank")


def test_receipt_is_never_written_outside_its_folder(store: Store) -> None:
    store.trust(bank().root, AT)
    with pytest.raises(BadInput):
        store.keep_receipt("bank", "../../x", "a.b.c")
    store.keep_receipt("bank", "P" * 22, "a.b.c")
    assert store.receipts("bank") == ("P" * 22,)


def test_link_laid_in_the_way_is_not_written_through(store: Store, tmp_path: Path) -> None:
    store.trust(bank().root, AT)
    target = tmp_path / "victim"
    target.write_text("kept")
    path = store.folder / "bank" / "receipts" / f"{'P' * 22}.jose"
    path.symlink_to(target)
    store.keep_receipt("bank", "P" * 22, "a.b.c")
    assert target.read_text() == "kept"
    assert not path.is_symlink()
