"""What an enrolled folder makes of a shop: who it is, what it signs and shows, and whom it believes."""

from dataclasses import dataclass
from pathlib import Path

from hanbit.crypto import certificates
from hanbit.crypto.tls import LineTls
from hanbit.kernel.errors import Unavailable
from hanbit.merchant import files
from hanbit.merchant.purchase_desk import Issuing
from hanbit.merchant.records import Guarded, Lists
from hanbit.merchant.session_keys import SessionKeys
from hanbit.protocols.dual_signature.merchant import Merchant as DualMerchant
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

    def issuing(self) -> Issuing:
        """The shop's part in the dual-signature checkout."""
        role = DualMerchant(signer=self.signer, gateway=self.registration.gateway, trust=self.guarded, root=self.root)
        return Issuing(role, self.sessions.usable)

    def chain_of(self, kid: str) -> tuple[bytes, ...]:
        """The chain of the key that signed an order: of the one in use, or of one before a renewal."""
        if kid == self.signer.kid:
            return self.signer.chain
        for folder in files.generation_folders(self.directory):
            path = files.chain_file(folder, self.signer.purpose)
            chain = certificates.load_chain_pem(path) if path.exists() else ()
            if chain and certificates.kid(chain[0]) == kid:
                return chain
        raise Unavailable("the certificate under which this order was signed is not here")

    def merchant(self) -> Merchant:
        """The shop's role in the redirect checkout."""
        registration = self.registration
        return Merchant(signer=self.signer, gateway=registration.gateway, trust=self.guarded, plain=registration.orders == "plain")
