"""An event as a client is told it: documents by the hash of their contents, and nothing of other clients."""

from collections.abc import Callable
from dataclasses import replace

from sala_core.events import Answer, ReadReceipt
from sala_core.remote.sala.wire import WireEvent


def for_client(event: WireEvent, content_hash: Callable[[str], str]) -> WireEvent:
    """The event for the client whose session it is about.

    event: as the work reports it. content_hash: of a document, by its id in this library.
    """
    if isinstance(event, ReadReceipt) and event.shared_with:  # the same text in a session of somebody else
        return replace(event, shared_with="")
    if not isinstance(event, Answer):
        return event

    shown = event.attention_map
    if shown is not None:
        shown = replace(shown, documents=tuple((content_hash(name), start) for name, start in shown.documents))
    return replace(
        event,
        evidence=tuple(replace(item, document_id=content_hash(item.document_id)) for item in event.evidence),
        quotations=tuple(replace(item, document_id=content_hash(item.document_id)) for item in event.quotations),
        attention_map=shown,
    )
