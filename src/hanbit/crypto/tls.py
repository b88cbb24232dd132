"""TLS: for the line version 1.3 only, with certificates of our own authority on both ends; for customers a public certificate."""

import ssl
from collections.abc import Callable
from pathlib import Path
from weakref import WeakSet

from hanbit.crypto.certificate_paths import verify_presented
from hanbit.kernel.errors import BadInput, ProtocolViolation

PUBLIC_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""What is offered where a client knows no TLS 1.3: forward secrecy and authenticated encryption only."""


def public_context(chain_pem_path: Path, key_path: Path) -> ssl.SSLContext:
    """For customers: TLS 1.3 preferred, 1.2 taken, HTTP/1.1 only; BadInput for files that are no certificate and its key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(PUBLIC_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    # No tickets: in TLS 1.2 one key in our memory would open every connection that was resumed under it.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        context.load_cert_chain(chain_pem_path, key_path, password=b"")
    except OSError as error:
        raise BadInput(f"TLS files {chain_pem_path}, {key_path}: {error.strerror or error}") from error
    return context


def server_context(chain_pem_path: Path, key_path: Path, root_pem_path: Path) -> ssl.SSLContext:
    """For the gateway's end: a peer without a `line` certificate under this root does not get through the handshake."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, chain_pem_path, key_path, root_pem_path)
    context.num_tickets = 0  # a resumed session would not show its certificate again, and a revoked peer would stay
    return context


def client_context(chain_pem_path: Path, key_path: Path, root_pem_path: Path) -> ssl.SSLContext:
    """For the merchant's end: any host name, but only a server with a `line` certificate under this root."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, chain_pem_path, key_path, root_pem_path)


def pinned_client_context(chain_pem_path: Path, key_path: Path, root_pem_path: Path, *, check: Callable[[bytes], object]) -> ssl.SSLContext:
    """As `client_context`, for clients that send as soon as the handshake is done: `check` sees the server's certificate (DER) before that.

    A ProtocolViolation of `check` ends the handshake.
    """

    class Pinned(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            try:
                check(self.getpeercert(binary_form=True) or b"")
            except ProtocolViolation as violation:
                raise ssl.SSLCertVerificationError(str(violation)) from violation

    context = client_context(chain_pem_path, key_path, root_pem_path)
    context.sslobject_class = Pinned
    return context


class LineTls:
    """One party's certificate on the line and every TLS context that shows it: when it is renewed, all of them follow.

    A context that is shown another certificate uses it in the handshakes that begin from then on; connections that are up stay as they are.
    """

    def __init__(self, chain_pem_path: Path, key_path: Path, root_pem_path: Path) -> None:
        self._chain, self._key, self._root = chain_pem_path, key_path, root_pem_path
        self._contexts: WeakSet[ssl.SSLContext] = WeakSet()

    def server(self) -> ssl.SSLContext:
        """As `server_context`."""
        return self._kept(server_context(self._chain, self._key, self._root))

    def client(self) -> ssl.SSLContext:
        """As `client_context`."""
        return self._kept(client_context(self._chain, self._key, self._root))

    def pinned_client(self, *, check: Callable[[bytes], object]) -> ssl.SSLContext:
        """As `pinned_client_context`."""
        return self._kept(pinned_client_context(self._chain, self._key, self._root, check=check))

    def show(self, chain_pem_path: Path, key_path: Path) -> None:
        """Show this certificate from now on."""
        self._chain, self._key = chain_pem_path, key_path
        for context in self._contexts:
            _load(context, chain_pem_path, key_path)

    def _kept(self, context: ssl.SSLContext) -> ssl.SSLContext:
        self._contexts.add(context)
        return context


def peer_urn(der: bytes, root: bytes, at: int, operator: str) -> str:
    """The party that a peer's certificate names, to be compared before the first frame; raises only ProtocolViolation.

    `der` comes from a handshake under a context of this module, so that OpenSSL has verified its chain to `root`.
    """
    leaf = verify_presented(der, root=root, at=at, operator=operator)
    if leaf.purpose != "line":
        raise ProtocolViolation("purpose", f"a {leaf.purpose} certificate cannot hold the line")
    return leaf.urn.text


def _context(protocol: int, chain_pem_path: Path, key_path: Path, root_pem_path: Path) -> ssl.SSLContext:
    # Not ssl.create_default_context: it trusts the machine's roots and writes keys where SSLKEYLOGFILE says.
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the URI in the certificate names the peer; its address names nobody
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        context.load_verify_locations(cafile=root_pem_path)
    except OSError as error:  # ssl.SSLError is one
        raise BadInput(f"TLS file {root_pem_path}: {error.strerror or error}") from error
    _load(context, chain_pem_path, key_path)
    return context


def _load(context: ssl.SSLContext, chain_pem_path: Path, key_path: Path) -> None:
    try:
        # Without a password OpenSSL would ask for one on the terminal: a server must fail instead.
        context.load_cert_chain(chain_pem_path, key_path, password=b"")
    except OSError as error:  # ssl.SSLError is one
        raise BadInput(f"TLS files {chain_pem_path}, {key_path}: {error.strerror or error}") from error
