"""What is said to who finds no room on the GPUs: the number, what is in the way, and what would help."""

from __future__ import annotations

from warmd.daemon.core import placement
from warmd.daemon.core.book import Book
from warmd.daemon.core.events import GpuId
from warmd.daemon.core.gpus import Tenancy
from warmd.daemon.core.session import Session
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
    return (
        f"there was no room for {wanted(tenancy)} {waited}: {in_the_way(book, session)}. "
        "End one of these, ask for less, or wait longer"
    )


def in_the_way(book: Book, session: Session) -> str:
    """Each GPU that would do, and who has it."""
    gpus = placement.candidates(book, placement.tenancy_of(session))
    return "; ".join(_place(book, session, gpu) for gpu in gpus[:MOST_NAMED]) or "its GPU is not to be seen"


def _place(book: Book, session: Session, gpu: GpuId) -> str:
    seen = book.gpus.known[gpu]
    holders = [one for one in book.gpus.tenants.values() if one is not session and book.gpus.held(one, gpu)]
    holders.sort(key=lambda one: -book.gpus.held(one, gpu))
    named = [_holder(book, one, gpu) for one in holders[:MOST_NAMED]]
    if len(holders) > MOST_NAMED:
        named.append(f"{len(holders) - MOST_NAMED} more")
    if strangers := book.gpus.strangers_bytes(gpu):
        named.append(f"other programs with {gib(strangers)}")
    taken = ", ".join(named) or "nobody"
    free = max(0, book.gpus.free_bytes(gpu))
    return f"GPU {seen.index} ({seen.name}, {gib(seen.total_bytes)}) has {gib(free)} free beside {taken}"


def _holder(book: Book, session: Session, gpu: GpuId) -> str:
    never = placement.tenancy_of(session).never
    how = f"{session.phase.value}; not parked: {never}" if never else session.phase.value
    return f"{session.id} of app {session.app.name} with {gib(book.gpus.held(session, gpu))} ({how})"
