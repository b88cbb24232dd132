"""What an enrolled folder makes of a shop: who it is, what it signs and shows, and whom it believes."""

from dataclasses import dataclass
from pathlib import Path

from hanbit.crypto import certificates
from hanbit.crypto.tls import LineTls
from hanbit.merchant import files
from hanbit.merchant.records import Guarded, Lists
from hanbit.merchant.session_keys import SessionKeys
from hanbit.protocols.redirect.merchant import Merchant
from hanbit.protocols.signed import PinnedTrust, Signer


@dataclass(frozen=True, slots=True)
class Identity:
    """One folder, opened; signer and line follow when the keys are renewed."""

    directory: Path
    registration: files.Registration
    root: bytes
    signer: Signer
    line_tls: LineTls
    lists: Lists
    sessions: SessionKeys
    trust: PinnedTrust
    """The gateway by its chain, less what is known to be revoked: for the line, which must come up to bring a new list."""

    @classmethod
    def load(cls, directory: Path) -> "Identity":
        """Read the folder; BadInput with what to do where it is none."""
        registration = files.read_registration(directory)
        root = certificates.load_chain_pem(directory / files.ROOT)[0]
        lists = Lists(directory, registration)
        return cls(
            directory=directory,
            registration=registration,
            root=root,
            signer=files.load_signer(directory, registration),
            line_tls=LineTls(*files.line_paths(directory)),
            lists=lists,
            sessions=SessionKeys.load(directory),
            trust=PinnedTrust(root, registration.operator, urn=registration.gateway, revoked=lists.revoked),
        )

    @property
    def guarded(self) -> Guarded:
        """The same trust for whatever decides about orders: it waits for a current list."""
        return self.lists.guard(self.trust)

    def merchant(self) -> Merchant:
        """The shop's role in the redirect checkout."""
        registration = self.registration
        return Merchant(signer=self.signer, gateway=registration.gateway, trust=self.guarded, plain=registration.orders == "plain")
