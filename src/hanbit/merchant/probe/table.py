"""Every case of the kit, in the order in which they are played; docs/conformance.md is generated from this page."""

from typing import Final

from hanbit.merchant.probe import controls
from hanbit.merchant.probe.authorizations import AUTHORIZATIONS
from hanbit.merchant.probe.case import Case
from hanbit.merchant.probe.network import NETWORK
from hanbit.merchant.probe.notice_bytes import SIGNATURES, WRITING
from hanbit.merchant.probe.notices import CONTENT, SIGNERS
from hanbit.merchant.probe.outcomes import OUTCOMES

CASES: Final[tuple[Case, ...]] = (
    *controls.FIRST,
    *CONTENT,
    *SIGNERS,
    *SIGNATURES,
    *WRITING,
    *OUTCOMES,
    *AUTHORIZATIONS,
    *NETWORK,
    *controls.LAST,
)
