"""What holds inside of a group of Rich Text: destination, format, font, place in tables."""

from dataclasses import dataclass, field, replace

from ..formats import Format
from .story import Story

_MAX_LEVEL = 40  # of tables inside of each other


@dataclass(kw_only=True)
class State:
    """The state of a group. target: `text`, `skip`, or the name of a destination that is collected as plain text.

    story, name: of the group itself, if it begins a story or a destination. is_new: nothing was read in it yet.
    """

    target: str = "text"
    form: Format = field(default_factory=Format)
    font: int = -1
    num_after_unicode: int = 1
    in_table: bool = False
    level: int = 1
    style: int = 0
    outline: int = 9
    indent: int = 0
    is_star: bool = False
    is_new: bool = True
    story: Story | None = None
    name: str = ""

    def inner(self) -> "State":
        """Return the state at the start of a group inside of this one."""
        return replace(self, is_star=False, is_new=True, story=None, name="")

    def word(self, word: str, number: int | None) -> bool:
        """Take a control word that changes the format or the place. False if it does not."""
        is_on = number != 0
        match word:
            case "f":
                self.font = number or 0
            case "s":
                self.style = number or 0
            case "uc":
                self.num_after_unicode = min(max(number if number is not None else 1, 0), 10)
            case "plain":
                self.form, self.font = Format(), -1
            case "pard":
                self.in_table, self.level, self.style, self.outline = False, 1, 0, 9
                self.indent = 0
            case "ilvl":
                self.indent = min(max(number or 0, 0), 8)
            case "intbl":
                self.in_table = True
            case "itap":
                self.level = min(max(number or 0, 0), _MAX_LEVEL)
                self.in_table = self.level > 0
            case "outlinelevel":
                self.outline = number if number is not None else 9
            case "super" | "sub" | "up" | "dn":
                shift = "sup" if word in ("super", "up") else "sub"
                self.form = replace(self.form, shift=shift if is_on else "")
            case "nosupersub":
                self.form = replace(self.form, shift="")
            case "strike" | "striked":
                self.form = replace(self.form, is_struck=is_on)
            case "deleted":
                self.form = replace(self.form, is_deleted=is_on)
            case "v":
                self.form = replace(self.form, is_hidden=is_on)
            case _:
                return False
        return True
