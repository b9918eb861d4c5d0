"""What is said to who finds no room on the GPUs: the number, what is in the way, and what would help."""

from __future__ import annotations

from warmd.daemon.core import placement
from warmd.daemon.core.book import Book
from warmd.daemon.core.events import GpuId
from warmd.daemon.core.gpus import Tenancy
from warmd.daemon.core.session import Phase, Session
from warmd.protocol.units import spell_seconds

MOST_NAMED = 5


def gib(bytes: int) -> str:
    return f"{bytes / 2**30:.1f} GiB"


def wanted(tenancy: Tenancy) -> str:
    ask = tenancy.ask
    if tenancy.home and not (ask is not None and ask.whole):
        return gib(sum(tenancy.home.values()))
    if ask is None or ask.bytes:
        return gib(ask.bytes if ask is not None else 0)
    if ask.share:
        return f"{ask.share:.0%} of a GPU"
    return f"{ask.whole} GPU{'s' if ask.whole > 1 else ''}"


def too_large(book: Book, tenancy: Tenancy) -> str:
    sizes = [seen.total_bytes for seen in book.gpus.known.values()]
    there = "the machine's GPU" if len(sizes) == 1 else f"the largest of the machine's {len(sizes)} GPUs"
    has = f"{there} has {gib(max(sizes))}"
    if tenancy.ask is not None and tenancy.ask.whole > len(sizes):
        has = f"the machine has {len(sizes)}"
    return f"it asks for {wanted(tenancy)}, and {has}: ask for less (gpu, in its manifest)"


def refusal(book: Book, session: Session) -> str:
    tenancy = placement.tenancy_of(session)
    waited = f"within {spell_seconds(book.limits.gpu_wait_seconds)} (gpu_wait)"
    if not book.gpus.known:
        return f"no GPU was to be seen {waited}: {book.gpus.why_none or 'its driver does not answer'}"
    if tenancy.trouble:
        return f"its GPU memory could not be brought back {waited}: {tenancy.trouble}; it is parked as before"
    short = f"there was no room for {wanted(tenancy)} {waited}"
    return f"{short}: {in_the_way(book, session)}. {_remedy(book, session)}"


def _remedy(book: Book, session: Session) -> str:
    tenancy = placement.tenancy_of(session)
    if _gone(book, tenancy):
        return "Look at `nvidia-smi`: it waits for the GPU that it was on"
    gpus = placement.candidates(book, tenancy)
    holders = [one for gpu in gpus for one in _holders(book, session, gpu)]
    if not holders:
        return "End other programs that use the GPU (`nvidia-smi` shows them), ask for less, or wait longer"
    if any(_lacks_host_memory(book, one) for one in holders):
        return "End one of these or a parked session, raise park_memory, ask for less, or wait longer"
    return "End one of these, ask for less, or wait longer"


def _holders(book: Book, session: Session, gpu: GpuId) -> list[Session]:
    """Who else has memory there, the one with the most first."""
    others = [one for one in book.gpus.tenants.values() if one is not session and book.gpus.held(one, gpu)]
    return sorted(others, key=lambda one: -book.gpus.held(one, gpu))


def _gone(book: Book, tenancy: Tenancy) -> list[GpuId]:
    """GPUs of its home that are not to be seen any more."""
    return [gpu for gpu in tenancy.home if gpu not in book.gpus.known]


def in_the_way(book: Book, session: Session) -> str:
    """Each GPU that would do, and who has it."""
    tenancy = placement.tenancy_of(session)
    if gone := _gone(book, tenancy):
        return f"its GPU {gone[0]} is not to be seen"
    gpus = placement.candidates(book, tenancy)
    return "; ".join(_place(book, session, gpu) for gpu in gpus[:MOST_NAMED]) or "its GPU is not to be seen"


def _place(book: Book, session: Session, gpu: GpuId) -> str:
    seen = book.gpus.known[gpu]
    holders = _holders(book, session, gpu)
    named = [_holder(book, one, gpu) for one in holders[:MOST_NAMED]]
    if len(holders) > MOST_NAMED:
        named.append(f"{len(holders) - MOST_NAMED} more")
    if strangers := book.gpus.strangers_bytes(gpu):
        named.append(f"other programs with {gib(strangers)}")
    taken = ", ".join(named) or "nobody"
    free = max(0, book.gpus.free_bytes(gpu))
    return f"GPU {seen.index} ({seen.name}, {gib(seen.total_bytes)}) has {gib(free)} free beside {taken}"


def _holder(book: Book, session: Session, gpu: GpuId) -> str:
    why_not = placement.tenancy_of(session).never
    if _lacks_host_memory(book, session):
        why_not = f"that would be over park_memory, {gib(book.limits.park_bytes)}"
    how = f"{session.phase.value}; not parked: {why_not}" if why_not else session.phase.value
    return f"{session.id} of app {session.app.name} with {gib(book.gpus.held(session, gpu))} ({how})"


def _lacks_host_memory(book: Book, session: Session) -> bool:
    """It could be parked, if host memory were allowed for it."""
    if placement.tenancy_of(session).never or session.phase not in (Phase.IDLE, Phase.BUSY):
        return False
    return placement.takes_of_host(book, session) > placement.host_bytes_left(book)
