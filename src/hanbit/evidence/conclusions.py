"""What follows from a checked evidence file, in words: what each party can and cannot deny, and what is missing. Pure.

`proved` rests on the party's own signature, `word` on the word of somebody who gains by it, `missing` is not in the file. A signature
under a key for which the operator alone vouches is a word, since the operator could have made that key.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

import msgspec

from hanbit.evidence.bundle import Attempt, printable
from hanbit.evidence.check import the_order
from hanbit.evidence.purchases import Approved
from hanbit.protocols.cancellation.messages import Cancel, CancelConfirmation, CancelRefusal
from hanbit.protocols.checkpoint import Checkpoint
from hanbit.protocols.dual_signature.messages import Authorization, AuthorizationRequest
from hanbit.protocols.fields import Message
from hanbit.protocols.redirect.messages import Closed, Confirmation, Notice, Order, Receipt, Refusal, Settled, Voided, Words
from hanbit.protocols.signed import SignedMessage

Weight = Literal["proved", "word", "missing"]


class Findings(msgspec.Struct):
    """What the steps have found."""

    source: Literal["gateway", "merchant", "message"] = "message"
    merchant: str = ""
    messages: tuple[SignedMessage[Message], ...] = ()
    checkpoint: Checkpoint | None = None
    held: Checkpoint | None = None
    card: str | None = None
    unvouched: tuple[str, ...] = ()
    """The merchant's keys in use that do not hang on the key card."""
    unrecorded: tuple[str, ...] = ()
    """Keys in use of whose certificates the file has no record."""
    unlisted: tuple[str, ...] = ()
    """Keys in use that no revocation list of that moment clears."""
    unanswered: tuple[str, ...] = ()
    unshown: int = 0
    no_order: bool = False
    no_approval: bool = False
    purchase: Approved | None = None
    """What was approved by dual signature."""
    authority_asked_under: str = ""
    """The merchant's key under which it asked for the session authority that certified the temporary key; empty if that is not shown."""
    holds_payment_information: bool = False
    """The file shows the payment server's half of it."""
    holds_order_information: bool = False
    """The file shows the merchant's half of it."""
    attempt: Attempt | None = None
    customer_key: str = ""
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Conclusion:
    """One sentence in both languages."""

    code: str
    weight: Weight
    words: Words

    def text(self, language: str) -> str:
        """In Korean or English."""
        return self.words.ko if language == "ko" else self.words.en


class Sentence(NamedTuple):
    """How much a conclusion rests on, and its words."""

    weight: Weight
    ko: str
    en: str


SENTENCES: Final[dict[str, Sentence]] = {
    "merchant_ordered": Sentence(
        "proved",
        "가맹점 {who}은(는) {amount} {currency}의 주문 {tid}을(를) 자신이 서명했음을 부인할 수 없습니다.",
        "Merchant {who} cannot deny having signed the order {tid} of {amount} {currency}.",
    ),
    "merchant_ordered_twice": Sentence(
        "proved",
        "가맹점 {who}은(는) 같은 거래번호 {tid}로 {amount} {currency}의 다른 주문에도 서명했음을 부인할 수 없습니다: "
        "이 지불은 그 주문에 대한 것이 아닙니다.",
        "Merchant {who} cannot deny having signed another order of {amount} {currency} under the same number {tid}: "
        "this payment is not for that one.",
    ),
    "merchant_confirmed": Sentence(
        "proved",
        "가맹점 {who}은(는) {amount} {currency}의 지불을 확인했음을 부인할 수 없습니다.",
        "Merchant {who} cannot deny having confirmed the payment of {amount} {currency}.",
    ),
    "merchant_refused": Sentence(
        "proved",
        "가맹점 {who}은(는) 지불을 거부했음을 부인할 수 없습니다 (사유: {reason}).",
        "Merchant {who} cannot deny having refused the payment (reason: {reason}).",
    ),
    "merchant_asked_back": Sentence(
        "proved",
        "가맹점 {who}은(는) 취소 {id}({amount} {currency})를 요청했음을 부인할 수 없습니다.",
        "Merchant {who} cannot deny having asked for cancellation {id} of {amount} {currency}.",
    ),
    "merchant_by_card": Sentence(
        "proved",
        "가맹점의 키는 열쇠 카드 {card}에서 이어집니다: 운영기관의 말에 기대지 않습니다.",
        "The merchant's keys follow from key card {card}: this does not rest on the operator's word.",
    ),
    "merchant_by_operators_word": Sentence(
        "word",
        "가맹점은 운영기관의 말로만 확인됩니다: 계약서에 붙인 열쇠 카드의 지문을 --key-card로 주십시오.",
        "Merchant identified by the operator's word only: give the thumbprint of the key card in the contract (--key-card).",
    ),
    "merchant_not_by_card": Sentence(
        "word",
        "키 {kid}은(는) 열쇠 카드 {card}에서 이어지지 않습니다: 운영기관 혼자 만들 수 있는 키이며, 가맹점은 그 서명을 부인할 수 있습니다.",
        "Key {kid} does not follow from key card {card}: the operator alone could have made it, and the merchant can deny what it signed.",
    ),
    "customer_signed_device": Sentence(
        "proved",
        "기기 키 {key}이(가) {tid}에 {amount} {currency}의 지불을 승인하여 서명했습니다.",
        "Device key {key} signed the approval of {amount} {currency} for {tid}.",
    ),
    "customer_signed_passkey": Sentence(
        "proved",
        "패스키 {key}이(가) {origin}에서 {tid}에 {amount} {currency}의 지불을 승인하여 서명했습니다.",
        "Passkey {key} signed the approval of {amount} {currency} for {tid} at {origin}.",
    ),
    "customer_by_operators_word": Sentence(
        "word",
        "키 {key}이(가) 고객 {who}의 것이라는 것은 운영기관의 등록에 따릅니다. 그의 것이라면 그는 승인했음을 부인할 수 없습니다.",
        "That key {key} is customer {who}'s rests on the operator's registration; if it is, he cannot deny having approved.",
    ),
    "customer_not_signed": Sentence(
        "word",
        "고객 {who}: 서명 없음. 결제서버가 '{method} 확인됨'이라고 말할 뿐이며, 고객이 부인하면 이 파일은 그를 반박하지 못합니다.",
        "Customer {who}: not signed. The payment server states '{method} verified'; if the customer denies it, nothing here but the "
        "operator's word contradicts that.",
    ),
    "gateway_settled": Sentence(
        "proved",
        "결제서버는 {amount} {currency}이(가) 가맹점에 지불되었음을 부인할 수 없습니다.",
        "The payment server cannot deny that {amount} {currency} were paid to the merchant.",
    ),
    "merchant_asked": Sentence(
        "proved",
        "가맹점 {who}은(는) 거래 세션 {sid}에서 {amount} {currency}의 지불 승인을 요청했고, 그로써 주문을 확인했음을 부인할 수 없습니다.",
        "Merchant {who} cannot deny having asked for a payment of {amount} {currency} in session {sid}, and so confirmed the order.",
    ),
    "gateway_approved": Sentence(
        "proved",
        "결제서버는 거래 세션 {sid}의 {amount} {currency}을(를) 승인했고 그 돈이 가맹점에 지불되었음을 부인할 수 없습니다.",
        "The payment server cannot deny having approved {amount} {currency} in session {sid}: they were paid to the merchant.",
    ),
    "gateway_declined": Sentence(
        "proved",
        "결제서버는 거래 세션 {sid}의 지불 승인을 거절했음을 부인할 수 없습니다.",
        "The payment server cannot deny having declined the payment of session {sid}.",
    ),
    "halves_joined": Sentence(
        "proved",
        "한 임시 키 {thumbprint}이(가) 거래 세션 {sid}의 주문정보와 지불정보에 함께 서명했습니다: 두 절반은 서로에게 속합니다.",
        "One temporary key {thumbprint} signed the order information and the payment information of session {sid}: "
        "the halves belong together.",
    ),
    "half_of_gateway": Sentence(
        "proved",
        "결제서버가 보관한 지불정보는 바로 그 서명이 가리키는 절반입니다: 결제서버도 고객도 나중에 다른 것을 내놓을 수 없습니다.",
        "The payment information that the payment server kept is the half under that signature: neither it nor the customer "
        "can show another.",
    ),
    "half_of_merchant": Sentence(
        "proved",
        "가맹점이 내놓은 주문정보는 바로 그 서명이 가리키는 절반입니다: 가맹점도 고객도 나중에 다른 것을 내놓을 수 없습니다.",
        "The order information that the merchant shows is the half under that signature: neither it nor the customer can show another.",
    ),
    "customer_by_temporary_key": Sentence(
        "word",
        "고객의 임시 키 {thumbprint}은(는) 가맹점이 이 거래 세션에 대해서만 인증한 것입니다: 세션을 증명할 뿐, 사람을 증명하지 않습니다.",
        "Customer: temporary key {thumbprint}, certified by the merchant for this session only: it proves the session and not the person.",
    ),
    "merchant_certified": Sentence(
        "proved",
        "가맹점 {who}은(는) 임시 키를 인증한 키가 자신의 것임을 부인할 수 없습니다: 그 인증을 자신의 서명 키로 요청했습니다.",
        "Merchant {who} cannot deny that the key which certified the temporary key is its own: it asked for that under its signing key.",
    ),
    "no_payment_information": Sentence(
        "missing",
        "지불정보는 이 파일에 없습니다: 결제서버의 파일만이 보여 줄 수 있습니다.",
        "The payment information is not in this file: only the payment server's file shows it.",
    ),
    "no_order_information": Sentence(
        "missing",
        "주문정보는 이 파일에 없습니다: 가맹점만이 가지고 있습니다 (--lines로 더할 수 있습니다).",
        "The order information is not in this file: only the merchant has it (--lines adds it).",
    ),
    "gateway_receipt": Sentence(
        "proved",
        "결제서버는 고객에게 {payee}에 대한 {amount} {currency}의 영수증을 주었음을 부인할 수 없습니다.",
        "The payment server cannot deny having given the customer a receipt of {amount} {currency} paid to {payee}.",
    ),
    "gateway_voided": Sentence(
        "proved",
        "결제서버는 지불이 해제되었음을 부인할 수 없습니다 (사유: {reason}): 아무 돈도 움직이지 않았습니다.",
        "The payment server cannot deny that the payment was voided (reason: {reason}): no money moved.",
    ),
    "gateway_closed": Sentence(
        "proved",
        "결제서버는 주문이 지불되지 않고 끝났음을 부인할 수 없습니다 ({outcome}).",
        "The payment server cannot deny that the order ended unpaid ({outcome}).",
    ),
    "gateway_asked": Sentence(
        "proved",
        "결제서버는 {amount} {currency}의 지불을 가맹점에 물었음을 부인할 수 없습니다.",
        "The payment server cannot deny having asked the merchant about a payment of {amount} {currency}.",
    ),
    "gateway_cancelled": Sentence(
        "proved",
        "결제서버는 취소 {id}({amount} {currency})를 받아들였음을 부인할 수 없습니다: 지금까지 환불 {refunded}, 남은 금액 {remaining}.",
        "The payment server cannot deny having confirmed cancellation {id} of {amount} {currency}: refunded so far {refunded}, "
        "left {remaining}.",
    ),
    "gateway_refused_cancellation": Sentence(
        "proved",
        "결제서버는 취소 {id}을(를) 거절했음을 부인할 수 없습니다 (사유: {reason}).",
        "The payment server cannot deny having refused cancellation {id} (reason: {reason}).",
    ),
    "in_the_log": Sentence(
        "proved",
        "모든 것이 결제서버가 서명한 기록부({size}개의 잎)에 들어 있습니다: 결제서버는 이 가운데 아무것도 나중에 바꿀 수 없습니다.",
        "All of this stands in the log of {size} leaves that the payment server has signed: it can change none of it later.",
    ),
    "same_log": Sentence(
        "proved",
        "당신이 가진 확인점({size}개의 잎)과 같은 기록부입니다.",
        "It is the same log as that of the checkpoint that you hold ({size} leaves).",
    ),
    "only_one_side": Sentence(
        "word",
        "가맹점 자신의 장부에서 나온 파일입니다: 시각과 순서, 그 밖에 무엇이 있었는지는 가맹점의 말입니다.",
        "This comes from the merchant's own book: times, order and that there was nothing else are the merchant's word.",
    ),
    "no_outcome": Sentence(
        "missing",
        "빠진 것: 결제서버의 서명된 결과. 이 파일만으로는 지불이 어떻게 끝났는지 정해지지 않습니다.",
        "Missing: a signed outcome of the payment server. This file does not decide how the payment ended.",
    ),
    "no_confirmation": Sentence(
        "missing",
        "빠진 것: 가맹점의 서명된 답. 이 파일은 가맹점이 확인했다는 것을 보이지 않습니다.",
        "Missing: the merchant's signed answer. Nothing in this file shows that the merchant confirmed.",
    ),
    "no_signed_order": Sentence(
        "missing",
        "빠진 것: 서명된 주문. 이 가맹점의 주문은 서명 없이 가거나 그 전에 끝났으며, 주문의 해시만 남아 있습니다.",
        "Missing: a signed order. This merchant's orders go unsigned, or it ended before one came; only the order's hash stands here.",
    ),
    "no_approval": Sentence(
        "missing",
        "빠진 것: 고객이 무엇을 승인했는지.",
        "Missing: what the customer approved.",
    ),
    "no_answer_to_cancellation": Sentence(
        "missing",
        "빠진 것: 취소 {id}에 대한 결제서버의 서명된 답.",
        "Missing: the payment server's signed answer to cancellation {id}.",
    ),
    "no_issue_record": Sentence(
        "missing",
        "빠진 것: 키 {kid}의 인증서가 발급된 기록. 운영기관이 언제 발급했는지 이 파일은 보이지 않습니다.",
        "Missing: the record of issue of key {kid}'s certificate. This file does not show when and for whom the operator made it.",
    ),
    "revocation_unknown": Sentence(
        "missing",
        "빠진 것: 그 순간에 키 {kid}이(가) 폐기되지 않았음을 보이는 폐기 목록. 폐기되지 않았다는 것은 이 파일을 만든 쪽의 말입니다.",
        "Missing: a revocation list that clears key {kid} at that moment. That it was not revoked is the word of whoever made this file.",
    ),
    "not_shown": Sentence(
        "missing",
        "빠진 것: 기록부의 같은 잎이 이 파일에 없는 메시지 {count}개를 가리킵니다. 그 전체를 요구하십시오.",
        "Missing: {count} messages that the same leaves of the log name and this file does not show. Ask for them.",
    ),
    "later_unknown": Sentence(
        "missing",
        "이 파일은 확인점 이후나 이 파일 밖에 다른 메시지가 없다는 것을 보이지 않습니다: 상대방의 파일과 견주십시오.",
        "This file does not show that there is nothing after it or beside it: compare it with the other party's.",
    ),
}
"""Every conclusion by its code."""
_IF_ITS_OWN: Final = Words(ko="그 키가 가맹점의 것이라면: ", en="If the key is its own: ")


def draw(found: Findings) -> tuple[Conclusion, ...]:
    """Everything that follows, parties first, then what rests on a word, then what is missing."""
    drawn = [*_signed(found), *_purchase(found), *_customer(found), *_identity(found), *_log(found), *_missing(found)]
    rank = {"proved": 0, "word": 1, "missing": 2}
    return tuple(sorted(drawn, key=lambda item: rank[item.weight]))


def _say(code: str, **values: object) -> Conclusion:
    weight, korean, english = SENTENCES[code]
    fit = {name: printable(str(value)) for name, value in values.items()}
    return Conclusion(code, weight, Words(ko=korean.format(**fit), en=english.format(**fit)))


def _signed(found: Findings) -> list[Conclusion]:
    drawn = []
    order = the_order(found.messages)
    for message in found.messages:
        claims = message.claims
        code = "merchant_ordered_twice" if isinstance(claims, Order) and message is not order else _code(claims)
        if code is None or (isinstance(claims, Notice) and len(found.messages) > 1 and _has(found, Settled | Voided)):
            continue
        values = {name: getattr(claims, name) for name in claims.__struct_fields__}
        values["id"] = values.get("cancellation", "")
        said = _say(code, **values, who=claims.iss)
        is_doubtful = claims.iss == found.merchant and (found.card is None or message.kid in found.unvouched)
        drawn.append(_if_its_own(said) if is_doubtful else said)
    return drawn


def _code(claims: Message) -> str | None:
    if isinstance(claims, Authorization):
        return "gateway_approved" if claims.result == "approved" else "gateway_declined"
    return _CODES.get(type(claims))


def _purchase(found: Findings) -> list[Conclusion]:
    if found.purchase is None:
        return []
    facts = {"sid": found.purchase.request.claims.sid, "thumbprint": found.purchase.thumbprint}
    pairs = (
        (found.holds_payment_information, "half_of_gateway", "no_payment_information"),
        (found.holds_order_information, "half_of_merchant", "no_order_information"),
    )
    halves = [_say(there if holds else missing) for holds, there, missing in pairs]
    drawn = [_say("halves_joined", **facts), *halves, _say("customer_by_temporary_key", **facts)]
    if found.authority_asked_under:
        said = _say("merchant_certified", who=found.merchant)
        is_doubtful = found.card is None or found.authority_asked_under in found.unvouched
        drawn.append(_if_its_own(said) if is_doubtful else said)
    return drawn


def _if_its_own(said: Conclusion) -> Conclusion:
    """Whoever could have made the key could have signed this."""
    return replace(said, weight="word", words=Words(ko=_IF_ITS_OWN.ko + said.words.ko, en=_IF_ITS_OWN.en + said.words.en))


def _customer(found: Findings) -> list[Conclusion]:
    attempt = found.attempt
    asked: Notice | AuthorizationRequest | None = next(
        (message.claims for message in found.messages if isinstance(message.claims, Notice)), None
    )
    if found.purchase is not None:
        asked = found.purchase.request.claims
    if attempt is None or asked is None:
        return []
    facts = {"amount": asked.amount, "currency": asked.currency, "tid": asked.tid, "method": attempt.method}
    code = _APPROVED.get(attempt.method)
    if code is None:
        return [_say("customer_not_signed", who=attempt.customer, **facts)]
    return [
        _say(code, key=found.customer_key, origin=found.origin, **facts),
        _say("customer_by_operators_word", who=attempt.customer, key=found.customer_key),
    ]


def _identity(found: Findings) -> list[Conclusion]:
    if not any(message.claims.iss == found.merchant for message in found.messages):
        return []
    if found.card is None:
        return [_say("merchant_by_operators_word")]
    if not found.unvouched:
        return [_say("merchant_by_card", card=found.card)]
    return [_say("merchant_not_by_card", kid=kid, card=found.card) for kid in found.unvouched]


def _log(found: Findings) -> list[Conclusion]:
    drawn = [_say("only_one_side")] if found.source == "merchant" else []
    if found.checkpoint is not None and found.source == "gateway":
        drawn.append(_say("in_the_log", size=found.checkpoint.size))
    if found.held is not None:
        drawn.append(_say("same_log", size=found.held.size))
    return drawn


def _missing(found: Findings) -> list[Conclusion]:
    drawn = [_say("revocation_unknown", kid=kid) for kid in found.unlisted]
    if found.source == "message":
        return [*drawn, _say("later_unknown")]
    if found.purchase is None and not _has(found, Settled | Voided | Closed):
        drawn.append(_say("no_outcome"))
    if _has(found, Notice) and not _has(found, Confirmation | Refusal):
        drawn.append(_say("no_confirmation"))
    if found.no_order or the_order(found.messages) is None:
        drawn.append(_say("no_signed_order"))
    if found.no_approval or (found.source == "merchant" and (found.purchase is not None or _has(found, Notice))):
        drawn.append(_say("no_approval"))
    drawn += [_say("no_answer_to_cancellation", id=name) for name in found.unanswered]
    if found.source == "gateway":
        drawn += [_say("no_issue_record", kid=kid) for kid in found.unrecorded]
    if found.unshown:
        drawn.append(_say("not_shown", count=found.unshown))
    return [*drawn, _say("later_unknown")]


def _has(found: Findings, kinds: object) -> bool:
    return any(isinstance(message.claims, kinds) for message in found.messages)  # type: ignore[arg-type]  # a union of kinds


_CODES: Final[dict[type[Message], str]] = {
    Order: "merchant_ordered",
    Notice: "gateway_asked",
    Confirmation: "merchant_confirmed",
    Refusal: "merchant_refused",
    Settled: "gateway_settled",
    Voided: "gateway_voided",
    Closed: "gateway_closed",
    Receipt: "gateway_receipt",
    AuthorizationRequest: "merchant_asked",
    Cancel: "merchant_asked_back",
    CancelConfirmation: "gateway_cancelled",
    CancelRefusal: "gateway_refused_cancellation",
}
_APPROVED: Final = {"device": "customer_signed_device", "passkey": "customer_signed_passkey"}
