"""Proofs from the store: a message is shown to stand in a signed log, to somebody who has nothing but the proof and the checkpoint."""

import msgspec
import pytest

from hanbit.crypto import merkle
from hanbit.evidence import log
from hanbit.evidence.record import Logged
from hanbit.kernel import ids
from hanbit.kernel.errors import NotFound, ProtocolViolation
from hanbit.payments import operations
from tests.world import World


async def signed(world: World) -> tuple[int, str]:
    """Size and root of the last checkpoint."""
    await world.tick(61)
    last = world.rows("checkpoints")[-1]
    return last["size"], last["root"]


async def test_every_message_of_a_payment_is_shown_to_stand_in_the_signed_log(world: World) -> None:
    visit = await world.visit()
    await visit.pay()
    size, root = await signed(world)
    reader = world.gateway.reader
    for row in world.rows("messages"):
        if row["leaf"] >= size:
            continue
        (segment,) = [header["segment"] for header in world.rows("headers") if header["id"] == row["header"]]
        compact = f"{segment}.{ids.encode_base64url(row['payload'].encode())}.{row['signature']}"
        proof = msgspec.json.decode(
            msgspec.json.encode(log.logged(reader, row["merchant"], row["tid"], row["hash"], size)), type=Logged
        )  # as it travels
        leaf = proof.verify(compact, size=size, root=root)
        assert leaf.number == row["leaf"]
        assert ("messages", (row["leaf"], row["place"])) in [item[:2] for item in leaf.items]
        for changes in (
            {"at": row["at"] + 1},
            {"merchant": "other"},
            {"tid": "T" * 22},
            {"signer_revoked_at": 1},
            {"place": row["place"] + 1},
            {"leaf": row["leaf"] + 1},
            {"path": proof.path[:-1]},
            {"path": (*proof.path, "A" * 43)},
            {"path": ("!", *proof.path[1:])},
            {"data": proof.data.replace("messages", "massages")},
            {"data": "[]"},
            {"data": proof.data.replace(str(row["at"]), str(row["at"] + 1), 1)},
            {"header": "A" * 43},
            {"hash": "A" * 43},
        ):
            with pytest.raises(ProtocolViolation):
                msgspec.structs.replace(proof, **changes).verify(compact, size=size, root=root)
        for bytes_ in (compact[:-4] + "AAAA", compact.replace(".", "x"), "한"):
            with pytest.raises(ProtocolViolation):
                proof.verify(bytes_, size=size, root=root)
        with pytest.raises(ProtocolViolation):
            proof.verify(compact, size=size, root="A" * 43)


async def test_proofs_reach_over_tiles(world: World) -> None:
    """Inner nodes come from leaves below a whole tile and from tiles above; both make the tree of the definition."""
    for number in range(600):
        state = ("suspended", "active")[number % 2]
        await operations.set_state(world.gateway, what="customer", id="kim", state=state)
    reader = world.gateway.reader
    leaves = [ids.decode_base64url(row["hash"]) for row in world.rows("log")]
    assert len(world.rows("tiles")) == len(leaves) // 256 >= 2
    frontier = merkle.Frontier()
    for size, leaf in enumerate(leaves, start=1):
        frontier.append(leaf)
        if size % 37 == 0 or size in (1, 255, 256, 257, 511, 512, 513, len(leaves)):
            root = frontier.root()
            assert log.root_at(reader, size) == ids.encode_base64url(root)
            path = [ids.decode_base64url(node) for node in log.consistency_proof(reader, size, len(leaves))]
            merkle.verify_consistency(size, len(leaves), root, ids.decode_base64url(log.root_at(reader, len(leaves))), path)


async def test_what_the_log_does_not_hold_is_not_found(world: World) -> None:
    size, _ = await signed(world)
    reader = world.gateway.reader
    later = world.rows("messages")[-1]  # the checkpoint itself stands behind what it signs
    for name, at in (("A" * 43, size), (later["hash"], size)):
        with pytest.raises(NotFound):
            log.logged(reader, later["merchant"], later["tid"], name, at)
    for first, second in ((0, 1), (2, 1), (1, 10_000_000)):
        with pytest.raises(NotFound):
            log.consistency_proof(reader, first, second)
    with pytest.raises(NotFound):
        log.root_at(reader, 10_000_000)
