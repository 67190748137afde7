"""The panel "Source": what opens it, and where it is. `source_viewer.js` shows documents in it.

`window.salaSource.open` takes {message, key} for a place of an answer, {message, cell} for a cell of its attention map,
or {document} for a document of the session; `app/server/sources/` answers what it asks.
"""
