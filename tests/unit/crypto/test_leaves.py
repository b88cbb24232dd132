"""The leaves of a batch are those that each of its Changes would have by itself, to the byte."""

from hypothesis import given
from hypothesis import strategies as st

from hanbit.crypto.leaves import Item, Leaf, digest, read_leaf, write_leaf, write_leaves

texts = st.text(max_size=12)
rows = st.lists(texts | st.integers(-(1 << 62), 1 << 62) | st.none(), min_size=1, max_size=4).map(tuple)


@given(st.lists(st.lists(st.tuples(texts, rows), min_size=1, max_size=4), max_size=8), st.integers(0, 1 << 40))
def test_a_batchs_leaves_are_those_of_its_changes(changes: list[list[tuple[str, tuple[str | int | None, ...]]]], first: int) -> None:
    written = [[(table, (place,), (table, row)) for place, (table, row) in enumerate(change)] for change in changes]
    leaves = write_leaves(first, 7, written)
    for number, (leaf, change) in enumerate(zip(leaves, changes, strict=True), first):
        items = tuple(Item(table, (place,), digest(table, row)) for place, (table, row) in enumerate(change))
        assert leaf == write_leaf(number, 7, items)
        assert read_leaf(leaf) == Leaf(number, 7, items)
