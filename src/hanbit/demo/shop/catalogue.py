"""What the demo shop sells; the phone is the one of the document's Figure 6."""

import io
import math
import wave
from dataclasses import dataclass
from functools import cache
from typing import Final

from hanbit.kernel.money import Money

CURRENCY: Final = "KRW"
QUANTITY_MAX: Final = 9
_RATE: Final = 8_000
_MELODY: Final = ((523, 2), (587, 2), (659, 2), (784, 4), (659, 2), (784, 2), (1047, 6))
"""(hertz, sixteenths of a second × 2)"""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing on the shelf; `id` also names its picture."""

    id: str
    ko: str
    en: str
    note_ko: str
    note_en: str
    price_minor: int
    colour: str
    """Name of the card's colour in the stylesheet."""
    digital: bool = False

    @property
    def price(self) -> Money:
        """The price of one."""
        return Money(self.price_minor, CURRENCY)

    def name(self, language: str) -> str:
        """What it is called."""
        return self.ko if language == "ko" else self.en

    def note(self, language: str) -> str:
        """One line about it."""
        return self.note_ko if language == "ko" else self.note_en


ITEMS: Final[dict[str, Item]] = {
    item.id: item
    for item in (
        Item("phone", "휴대폰 IM-1100", "Mobile phone IM-1100", "작지만 오래 가는 전화", "Small, and it lasts", 220_000, "sky"),
        Item(
            "song",
            "노래 「한빛」",
            "Song “One Great Light”",
            "지불되면 바로 내려받기",
            "Yours to download once paid",
            1_200,
            "lilac",
            digital=True,
        ),
        Item("umbrella", "무지개 우산", "Rainbow umbrella", "비 오는 날을 기다리게 되는", "Makes you wait for rain", 18_000, "lemon"),
        Item("teapot", "찻주전자", "Teapot", "세 사람이 마실 만큼", "Enough for three", 34_000, "mint"),
        Item("trainers", "운동화", "Trainers", "동네 한 바퀴", "Once around the block", 79_000, "peach"),
        Item("plant", "몬스테라 화분", "Potted monstera", "물은 일주일에 한 번", "Water it once a week", 26_000, "mint"),
    )
}


@cache
def song() -> bytes:
    """The digital item: a melody of two seconds, made here so that nobody else's rights are touched."""
    samples = bytearray()
    for hertz, length in _MELODY:
        count = _RATE * length // 20
        for index in range(count):
            fade = 1 - index / count
            samples.append(128 + int(90 * fade * math.sin(2 * math.pi * hertz * index / _RATE)))
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(1)
        sound.setframerate(_RATE)
        sound.writeframes(bytes(samples))
    return file.getvalue()
