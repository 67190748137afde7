"""Under a quota snapshots become fewer, and every turn stays within one interval of one."""

from sala_core.session.stream import SNAPSHOT_TOKENS
from sala_core.store.space import INTERVAL_TOKENS

TURN_TOKENS = 9_000
NUM_TURNS = 40


def distances(chain):
    """For the end of every checkpoint: tokens behind the last snapshot at or before it."""
    found, last = [], 0
    for row in chain:
        last = row.end if row.has_snapshot else last
        found.append(row.end - last)
    return found


def test_a_quota_is_met_by_snapshots_that_are_spare(library, store, save, new_session):
    session = new_session(num_tokens=NUM_TURNS * TURN_TOKENS)
    name = None
    for _ in range(NUM_TURNS):
        name = save(name, num_tokens=TURN_TOKENS, keep=True)
        library.set_head(session, name, store.checkpoint(name).end)
    before = library.usage()
    freed = library.make_room(before.states_bytes - before.snapshots_bytes // 2)
    after = library.usage()
    assert 0 < freed <= before.snapshots_bytes * 0.6, "not more than needed"
    assert after.segments_bytes == before.segments_bytes
    library.make_room(after.segments_bytes // 2)
    assert library.session(session).position < NUM_TURNS * TURN_TOKENS, "its chain is shortened only then"


def test_every_turn_of_an_open_session_stays_within_an_interval(library, store, save, new_session):
    session = new_session(num_tokens=NUM_TURNS * TURN_TOKENS)
    name = None
    for _ in range(NUM_TURNS):
        name = save(name, num_tokens=TURN_TOKENS, keep=True)
        library.set_head(session, name, store.checkpoint(name).end)
    with library.lock_session(session):
        library.make_room(0)
    chain = store.chain(name)
    assert len(chain) == NUM_TURNS
    assert chain[-1].has_snapshot
    assert max(distances(chain)) <= INTERVAL_TOKENS == SNAPSHOT_TOKENS
    assert sum(row.has_snapshot for row in chain) <= NUM_TURNS * TURN_TOKENS // (INTERVAL_TOKENS - 2 * TURN_TOKENS) + 2
    files = {path.name.split(".")[0] for path in library.states_folder.glob("*.snapshot.*")}
    assert files == {row.name for row in chain if row.has_snapshot}


def test_a_branch_keeps_what_it_needs(library, store, save, new_session):
    trunk = save(save(num_tokens=60_000, keep=True), num_tokens=4_000, keep=True)
    long = save(trunk, num_tokens=50_000, salt=1, keep=True)
    short = save(trunk, num_tokens=1_000, salt=2, keep=True)
    for number, head in enumerate((long, short)):
        session = new_session(f"book {number}", num_tokens=200_000)
        library.set_head(session, head, store.checkpoint(head).end)
    with library.lock_session("book 0"), library.lock_session("book 1"):
        library.make_room(0)
    for head in (long, short):
        assert max(distances(store.chain(head))) <= INTERVAL_TOKENS
