"""The page's regions, and how to add to them.

The page has four landmarks: "banner" (the bar at the top), "navigation" (sessions), "main" (the conversation and the
question box, which is always in view) and "complementary" (the right side). The right side shows one panel at a time,
chosen by tabs. In windows of up to 1180 pixels "Sessions" is one of these tabs; in those of up to 760 pixels
"Conversation" is one too, and the tabs are at the bottom.

To add a panel to the right side:

1. Add a `SidePanel` to `SIDE_PANELS` in `regions.py`. Its title is the tab's accessible name. A panel that is not on
   the page gets no tab.
2. In `app/page/panels.py`, inside `with regions.complementary():`, write `with regions.side_panel("name"):` and build
   the controls inside. All panels stay in the document, so hidden ones can be filled at any time.
3. To show it from a script: `window.salaLayout.show("name")`. `window.salaLayout.shown()` names the one that is shown,
   and the event "sala-panel" on `document` tells each change (`event.detail` is the name). A panel is shown by itself
   only where `assets/page/layout.js` says so (`follow`): a reading shows "sources", a new answer's evidence "evidence".

To add a button to the bar: build it inside `with regions.bar_actions():`. To add a form over the page:
`with regions.sheet("name", "Title") as form:` inside `with regions.sheets():`; show it with `gr.update(visible=True)`.
Its last button closes it, also by Escape; focus moves in when it opens and back when it closes. Dialogs that a script
makes are in `assets/page/dialogs.js`.

Styles: `assets/page/layout.css` (regions, tabs, sheets), colors in `page.css`. A panel's own styles and scripts are
files of their own in `assets/page/`, named in `app/page/theme.py`. Keys: `window.salaKeys.add(...)`, see
`assets/page/keys.js`. To tell something to screen readers: `window.salaLayout.announce("words")`.
"""
