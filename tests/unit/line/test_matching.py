"""Which answer belongs to which request, decided by hashes of bytes alone."""

import asyncio
import itertools

import pytest

from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation, Unavailable
from hanbit.protocols.line import ACKNOWLEDGED_MAX, FRAME_MAX, Frame, Matching, frame_hash, read_frame, request_hashes
from tests.unit.line.parties import answer_to, frame_of, request

ENVELOPE = "eyJ9..AAAA.BBBB.CCCC"


class Slot:
    """Stands for a future; the matching needs no event loop."""

    def __init__(self) -> None:
        self.result: str | None = None
        self.error: BaseException | None = None

    def done(self) -> bool:
        return self.result is not None or self.error is not None

    def set_result(self, result: str, /) -> None:
        self.result = result

    def set_exception(self, exception: BaseException, /) -> None:
        self.error = exception


def waiting(matching: Matching, frame: str) -> Slot:
    slot = Slot()
    matching.expect(frame_hash(frame), slot)
    return slot


def answered(matching: Matching, message: str) -> bool:
    return matching.answer(read_frame(message).answers, message)


def test_an_answer_reaches_the_request_whose_hash_it_names_and_no_other() -> None:
    matching, first, second = Matching(10), request(), request()
    slots = waiting(matching, first), waiting(matching, second)
    answer = answer_to(second)
    assert answered(matching, answer)
    assert [slot.result for slot in slots] == [None, answer]
    assert len(matching) == 1


def test_the_same_request_asked_twice_is_answered_in_both_places_by_one_answer() -> None:
    matching, frame = Matching(10), request()
    slots = waiting(matching, frame), waiting(matching, frame)
    assert answered(matching, answer_to(frame))
    assert all(slot.result for slot in slots)
    assert len(matching) == 0


def test_one_acknowledgement_answers_a_hundred_requests_and_not_one_more() -> None:
    matching, frames = Matching(200), [request() for _ in range(ACKNOWLEDGED_MAX + 1)]
    slots = [waiting(matching, frame) for frame in frames]
    assert not answered(matching, answer_to(*frames))
    assert len(matching) == ACKNOWLEDGED_MAX + 1
    assert answered(matching, answer_to(*frames[:ACKNOWLEDGED_MAX]))
    assert [slot.done() for slot in slots] == [True] * ACKNOWLEDGED_MAX + [False]


def test_an_acknowledgement_of_which_only_a_part_was_waited_for_is_reported() -> None:
    matching, waited, told = Matching(10), request(), request()
    slot = waiting(matching, waited)
    assert not answered(matching, answer_to(waited, told))
    assert slot.done()
    assert matching.unsolicited == 0


def test_an_answer_to_nobody_is_reported_and_counted() -> None:
    matching = Matching(10)
    assert not answered(matching, answer_to(request()))
    assert matching.unsolicited == 1


def test_a_second_answer_does_not_replace_the_first_and_is_reported() -> None:
    matching, frame = Matching(10), request()
    slot, first = waiting(matching, frame), answer_to(frame)
    assert answered(matching, first)
    assert not answered(matching, answer_to(frame))
    assert slot.result == first


def test_no_more_requests_wait_than_the_limit_and_a_forgotten_one_makes_room() -> None:
    matching, frame = Matching(1), request()
    slot = waiting(matching, frame)
    with pytest.raises(Unavailable):
        waiting(matching, request())
    matching.forget(frame_hash(frame), slot)
    matching.forget(frame_hash(frame), slot)
    waiting(matching, request())
    assert len(matching) == 1


def test_whoever_waits_hears_that_the_connection_is_gone() -> None:
    matching = Matching(10)
    slots = [waiting(matching, request()) for _ in range(3)]
    matching.fail(Unavailable("gone"))
    assert all(isinstance(slot.error, Unavailable) for slot in slots)
    assert len(matching) == 0


async def test_a_future_that_was_given_up_is_left_alone() -> None:
    matching, frame = Matching(10), request()
    slot = asyncio.get_running_loop().create_future()
    matching.expect(frame_hash(frame), slot)
    slot.cancel()
    assert answered(matching, answer_to(frame))
    assert slot.cancelled()


def test_an_envelope_after_a_line_feed_changes_nothing_in_the_name_of_the_request() -> None:
    frame = request()
    assert read_frame(f"{frame}\n{ENVELOPE}").typ == "hanbit-notice"
    assert frame_hash(f"{frame}\n{ENVELOPE}") == frame_hash(frame) == ids.digest(frame.encode())


def test_a_receipt_travels_beside_the_answer_in_the_same_frame() -> None:
    frame = request()
    assert read_frame(f"{answer_to(frame)}\n{request()}") == Frame("hanbit-confirmation", (frame_hash(frame),))


def test_the_typ_and_the_hash_are_read_from_a_frame() -> None:
    frame = request()
    assert read_frame(answer_to(frame)) == Frame("hanbit-confirmation", (frame_hash(frame),))
    assert read_frame(frame) == Frame("hanbit-notice", ())


def header(text: str) -> str:
    return f"{ids.encode_base64url(text.encode())}.e30.{'A' * 86}"


@pytest.mark.parametrize(
    "frame",
    [
        "",
        ".",
        "..",
        "hello",
        "{}",
        request() + "\n",
        request() + "\nenvelope",
        request() + "\n" + ENVELOPE + ".x",
        request() + "\n" + ENVELOPE + "\n" + ENVELOPE,
        request() + ".more",
        request()[:-1],
        request() + "A",
        request().replace(".", ":"),
        request().replace(".", "..", 1),
        " " + request(),
        "é" + request(),
        "A" + request(),
        request().replace(".", ".é", 1),
        request().replace(".", ".+", 1),
        header("[]"),
        header("{}"),
        header('{"typ":1}'),
        header('{"typ":"JWT"}'),
        header('{"typ":"hanbit-"}'),
        header('{"typ":"hanbit-NOTICE"}'),
        header("[" * 5000),
        header('{"typ":"hanbit-notice","x":"' + "x" * 16_000 + '"}'),
        frame_of("notice", text="x" * FRAME_MAX),
    ],
    ids=itertools.count(),
)
def test_what_is_no_message_of_known_shape_is_told_apart(frame: str) -> None:
    with pytest.raises(ProtocolViolation):
        read_frame(frame)


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"null", b'{"req":1}', b'{"req":[1]}', b'{"req":{}}', b"\xff", b"[" * 100_000, b'{"req":"a"']
)
def test_a_payload_of_another_shape_answers_nothing(payload: bytes) -> None:
    assert request_hashes(payload) == ()
