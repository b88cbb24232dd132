"""Every word of the demo shop's pages in Korean and English."""

from typing import Final, Literal

from hanbit.kernel.money import Money

Language = Literal["ko", "en"]

WORDS: Final[dict[str, tuple[str, str]]] = {
    "shop": ("무지개 상점", "Rainbow Shop"),
    "motto": ("작은 기쁨을 팝니다", "We sell small joys"),
    "demo": ("시험용 상점입니다. 진짜 물건도 진짜 돈도 없습니다.", "A demonstration shop: no real goods, no real money."),
    "skip": ("본문으로", "Skip to content"),
    "shelf": ("오늘의 진열대", "On the shelf today"),
    "orders": ("내 주문", "My orders"),
    "login": ("로그인", "Log in"),
    "logout": ("로그아웃", "Log out"),
    "login_title": ("상점에 로그인", "Log in to the shop"),
    "login_note": (
        "이것은 상점의 로그인입니다. 은행 비밀번호를 여기에 넣지 마십시오.",
        "This is the shop's own login. Never type your bank password here.",
    ),
    "id": ("아이디", "ID"),
    "password": ("비밀번호", "Password"),
    "login_failed": ("아이디나 비밀번호가 맞지 않습니다.", "That ID and password do not go together."),
    "sample_accounts": ("시험용 계정", "Sample accounts"),
    "buy": ("구입하기", "Buy"),
    "digital": ("내려받는 상품", "Download"),
    "order_title": ("주문하기", "Your order"),
    "item": ("구입상품", "Item"),
    "quantity": ("수량", "Quantity"),
    "price": ("가격", "Price"),
    "total": ("합계", "Total"),
    "pay_by": ("지불방법", "Payment method"),
    "hanbit": ("한빛전자지불 / Hanbit", "한빛전자지불 / Hanbit"),
    "window": ("한빛전자지불, 이 화면에서 / Hanbit, on this page", "한빛전자지불, 이 화면에서 / Hanbit, on this page"),
    "deposit": ("무통장입금 / bank deposit", "무통장입금 / bank deposit"),
    "ok": ("확인", "OK"),
    "cancel": ("취소", "Cancel"),
    "order_note": (
        "확인을 누르면 은행의 결제서버로 갑니다. 상점은 계좌번호도 비밀번호도 알 수 없습니다.",
        "OK takes you to the bank's payment server. The shop never learns your account or password.",
    ),
    "deposit_title": ("무통장입금", "Bank deposit"),
    "deposit_text": (
        "무통장입금은 이 시험에 들어 있지 않습니다. 주문은 만들어지지 않았습니다.",
        "Bank deposit is not part of this demonstration. No order was made.",
    ),
    "back": ("진열대로 돌아가기", "Back to the shelf"),
    "no_orders": ("아직 주문이 없습니다.", "No orders yet."),
    "order_number": ("주문번호", "Order number"),
    "placed_at": ("주문 시각", "Placed"),
    "status": ("상태", "Status"),
    "amount": ("금액", "Amount"),
    "pay_here": ("여기서 지불하기", "Pay here"),
    "pay_now": ("지불하러 가기", "Go and pay"),
    "download": ("노래 내려받기", "Download the song"),
    "not_yet": ("아직 내려받을 수 없습니다", "Not yet yours to download"),
    "not_yet_text": (
        "결제서버가 서명한 지불 확인이 오면 내려받을 수 있습니다.",
        "You can download it once the payment server's signed confirmation of payment is here.",
    ),
    "see_order": ("주문 보기", "See the order"),
    "waiting": (
        "결제서버의 대답을 기다리고 있습니다. 이 화면은 저절로 바뀝니다.",
        "Waiting for the payment server. This page updates itself.",
    ),
    "placed": ("지불 전", "Not paid yet"),
    "placed_text": ("주문을 받았습니다. 아직 지불되지 않았습니다.", "We have your order. It is not paid yet."),
    "confirmed": ("확인 중", "Being paid"),
    "confirmed_text": (
        "주문을 은행에 확인해 주었습니다. 지불을 기다립니다.",
        "We confirmed your order to the bank and wait for the payment.",
    ),
    "requested": ("확인 중", "Being paid"),
    "requested_text": (
        "지불을 은행에 요청했습니다. 대답을 기다립니다.",
        "We have asked the bank for your payment and wait for its answer.",
    ),
    "settled": ("지불 완료", "Paid"),
    "settled_text": ("고맙습니다! 지불이 끝나서 상품을 보내 드립니다.", "Thank you! It is paid and on its way."),
    "settled_digital": ("고맙습니다! 지불이 끝났습니다. 이제 내려받으십시오.", "Thank you! It is paid and yours to download."),
    "refused": ("거절됨", "Refused"),
    "refused_text": (
        "상점이 이 지불을 받아들이지 않았습니다. 돈은 빠져나가지 않습니다. 다시 주문해 주십시오.",
        "We did not accept this payment. No money is taken. Please order again.",
    ),
    "voided": ("지불되지 않음", "Not paid"),
    "voided_text": (
        "지불이 이루어지지 않았고 돈은 빠져나가지 않았습니다. 다시 주문해 주십시오.",
        "The payment did not go through and no money was taken. Please order again.",
    ),
    "closed": ("끝남", "Ended"),
    "closed_text": (
        "지불하지 않은 채 끝난 주문입니다. 돈은 빠져나가지 않았습니다.",
        "This order ended without a payment. No money was taken.",
    ),
    "withdrawn": ("거두어들임", "Withdrawn"),
    "withdrawn_text": (
        "상점이 이 주문을 거두었습니다. 더 이상 지불할 수 없습니다.",
        "The shop has withdrawn this order. It can no longer be paid.",
    ),
    "cancelled": ("취소됨", "Cancelled"),
    "cancelled_text": (
        "상점이 이 주문을 취소했습니다. 돈은 빠져나가지 않았습니다.",
        "We cancelled this order. No money was taken.",
    ),
    "cancelled_refunded": (
        "상점이 이 주문을 취소했고, 돈은 지불하신 계좌로 돌아갔습니다.",
        "We cancelled this order, and the money went back to the account that you paid from.",
    ),
    "partly_refunded": ("일부 환불", "Partly refunded"),
    "partly_refunded_text": (
        "금액의 일부가 지불하신 계좌로 돌아갔습니다. 나머지 주문은 그대로 유효합니다.",
        "A part of the money went back to the account that you paid from. The rest of your order stands.",
    ),
    "being_cancelled": (
        "상점이 취소를 요청했습니다. 결제서버의 대답을 기다리고 있습니다.",
        "We have asked to cancel this and wait for the payment server.",
    ),
    "refunded": ("환불된 금액", "Refunded"),
    "remaining": ("남은 금액", "Remaining"),
    "ended": ("더 이상 내려받을 수 없습니다", "No longer yours to download"),
    "ended_text": ("이 주문은 취소되어 내려받기가 끝났습니다.", "This order was cancelled, so the download has ended."),
    "staff_login": ("직원 로그인", "Staff login"),
    "staff_login_note": (
        "상점 폴더의 staff.token 파일에 있는 토큰을 넣으십시오.",
        "Type the token in the file staff.token of the shop's folder.",
    ),
    "staff_login_failed": ("토큰이 맞지 않습니다.", "That is not the token."),
    "staff_token": ("직원 토큰", "Staff token"),
    "staff_orders": ("모든 주문", "All orders"),
    "staff_no_orders": ("아직 주문이 없습니다.", "No orders yet."),
    "staff_order": ("주문 관리", "An order"),
    "staff_changed": (
        "지금은 그렇게 할 수 없습니다. 아래의 현재 상태를 보십시오.",
        "That is not possible now. See below how the order stands.",
    ),
    "staff_wrong": ("금액이나 사유를 다시 확인하십시오.", "Check the amount and the reason."),
    "cancellations": ("취소와 환불", "Cancellations and refunds"),
    "cancellation_asked": ("대답 기다림", "Waiting for the answer"),
    "cancellation_confirmed": ("확인됨", "Confirmed"),
    "cancellation_refused": ("거절됨", "Refused"),
    "cancellation_waits": (
        "결제서버에 서명하여 요청했습니다. 대답이 올 때까지 같은 요청을 다시 보냅니다.",
        "The signed request is with the payment server. The same request is sent again until it answers.",
    ),
    "look_again": ("다시 보기", "Look again"),
    "needs_a_look": (
        "결제서버의 금액과 다릅니다. 운영기관과 확인하십시오.",
        "The payment server's figures differ: check with the operator.",
    ),
    "goods_awaited": ("상품이 돌아오기를 기다림", "Goods awaited back"),
    "goods_returned": ("상품이 돌아옴", "Goods returned"),
    "goods_came_back": ("상품이 돌아왔습니다", "The goods came back"),
    "goods_come_back": ("상품을 돌려받습니다", "The goods are to come back"),
    "cancel_order": ("취소하기", "Cancel or refund"),
    "amount_back": ("돌려줄 금액 (원)", "Amount to give back (won)"),
    "amount_note": ("일부만 돌려줄 수도 있습니다. 남은 금액:", "A part is possible too. Remaining:"),
    "unpaid_note": (
        "아직 지불되지 않은 주문입니다. 주문을 거두고, 뒤늦은 지불은 받지 않습니다.",
        "This order is not paid. It is withdrawn, and a late payment is not accepted.",
    ),
    "reason": ("사유", "Reason"),
    "cancel_now": ("취소하고 돌려주기", "Cancel and give back"),
    "cancel_unpaid": ("주문 취소하기", "Cancel the order"),
    "refusal_too_late": ("환불 기한이 지났습니다", "The time for a refund has passed"),
    "refusal_merchant_funds": ("상점 계좌의 잔액이 모자랍니다", "The shop's account cannot cover it"),
    "refusal_remaining_differs": ("결제서버가 아는 남은 금액과 다릅니다", "The payment server knows another remaining amount"),
    "refusal_too_much": ("남은 금액보다 많습니다", "More than what is left"),
    "refusal_amount_differs": ("지불 전에는 전체만 취소할 수 있습니다", "Before the payment only the whole order can be cancelled"),
    "replaced": ("바뀐 주문 보기", "See the order that took its place"),
    "not_found": ("찾을 수 없습니다", "Not found"),
    "not_found_text": ("그런 화면이나 주문이 없습니다.", "There is no such page or order."),
    "error": ("할 수 없습니다", "That did not work"),
    "bad_input_text": ("보내신 내용을 알 수 없습니다. 돌아가서 다시 해 보십시오.", "We could not read that. Go back and try again."),
    "foreign_text": ("다른 사이트에서 온 요청이라 받지 않았습니다.", "The request came from another site and was not taken."),
    "busy_text": ("지금은 받을 수 없습니다. 잠시 뒤에 다시 해 보십시오.", "We cannot take it right now. Please try again in a moment."),
    "telephone": ("전화", "Telephone"),
    "language": ("English", "한국어"),
}


def say(key: str, language: Language) -> str:
    """The word for a key; an unknown key is our bug."""
    return WORDS[key][language == "en"]


def won(money: Money, language: Language) -> str:
    """220,000원 or 220,000 won."""
    return f"{money.amount_minor:,}{'원' if language == 'ko' else ' won'}"
