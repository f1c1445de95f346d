"""The text of SHOW CREATE TABLE, taken apart so that one piece can change and the rest cannot.

Everything is kept as the server wrote it: rendering an unchanged table gives its text back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from datajoint_migrate.catalog.sql import Token, text_of, tokens
from datajoint_migrate.errors import InternalError


def literal(text: str) -> str:
    """`text` as a string literal, escaped as SHOW CREATE TABLE escapes."""
    for plain, escaped in (("\\", "\\\\"), ("\0", "\\0"), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(plain, escaped)
    return "'" + text.replace("'", "''") + "'"


def _depths(parts: Sequence[Token]) -> Iterator[tuple[int, Token, int]]:
    """Index, token and bracket depth; a bracket counts as inside itself."""
    depth = 0
    for index, token in enumerate(parts):
        if token.text == "(":
            depth += 1
        yield index, token, depth
        if token.text == ")":
            depth -= 1


# -- columns -----------------------------------------------------------------------------------

# Words that begin a new clause after the type of a column.
CLAUSES = {
    "NOT", "NULL", "DEFAULT", "ON", "AUTO_INCREMENT", "COMMENT", "GENERATED", "AS", "VIRTUAL",
    "STORED", "PERSISTENT", "INVISIBLE", "VISIBLE", "CONSTRAINT", "CHECK", "COLUMN_FORMAT",
    "STORAGE", "SRID", "UNIQUE", "PRIMARY", "REFERENCES", "WITH", "WITHOUT", "COMPRESSED",
    "ENGINE_ATTRIBUTE", "SECONDARY_ENGINE_ATTRIBUTE", "CHARACTER", "COLLATE", "REF_SYSTEM_ID",
}  # fmt: skip

# What still belongs to a clause although it could begin one.
CONTINUED = {
    "NOT": {"NULL"},
    "DEFAULT": {"NULL"},
    "GENERATED": {"AS"},
    "CONSTRAINT": {"CHECK"},
}


@dataclass
class Clause:
    """One attribute of a column: its first word in capitals, and its text with the space before."""

    keyword: str
    text: str

    @property
    def tokens(self) -> list[Token]:
        """The tokens that matter."""
        return [token for token in tokens(self.text) if token.kind != "space"]


@dataclass
class ColumnText:
    """A column line: name, type with its brackets and signs, and the clauses after it."""

    quoted: str
    base: str
    clauses: list[Clause]

    @property
    def name(self) -> str:
        return Token("name", self.quoted).name

    @property
    def type_name(self) -> str:
        """The bare type, in small letters: `int`, `enum`."""
        return tokens(self.base)[0].text.lower()

    def find(self, keyword: str) -> Clause | None:
        """The clause that begins with that word."""
        return next((clause for clause in self.clauses if clause.keyword == keyword), None)

    def drop(self, *keywords: str) -> bool:
        """Remove clauses; whether there were any."""
        kept = [clause for clause in self.clauses if clause.keyword not in keywords]
        dropped = len(kept) < len(self.clauses)
        self.clauses = kept
        return dropped

    def set_comment(self, comment: str) -> None:
        """Replace the comment, or add one at the end."""
        said = f" COMMENT {literal(comment)}"
        if clause := self.find("COMMENT"):
            clause.text = said
        else:
            self.clauses.append(Clause("COMMENT", said))

    def copied(self) -> ColumnText:
        """Another one, that can change alone."""
        return ColumnText(
            self.quoted, self.base, [Clause(one.keyword, one.text) for one in self.clauses]
        )

    def render(self) -> str:
        return f"{self.quoted} {self.base}" + "".join(clause.text for clause in self.clauses)


def parse_column(parts: Sequence[Token]) -> ColumnText:
    """A column line of SHOW CREATE TABLE."""
    rest = list(parts[1:])
    while rest and rest[0].kind == "space":
        rest.pop(0)
    end = _end_of_type(rest)
    return ColumnText(parts[0].text, text_of(rest[:end]), _clauses(rest[end:]))


def _end_of_type(parts: Sequence[Token]) -> int:
    end = 1
    for index, token, depth in _depths(parts):
        if index == 0 or token.kind == "space":
            continue
        if not depth and token.word not in ("UNSIGNED", "ZEROFILL", "PRECISION"):
            break
        end = index + 1
    return end


def _clauses(parts: Sequence[Token]) -> list[Clause]:
    found: list[Clause] = []
    space = ""
    conditional = False
    for _, token, depth in _depths(parts):
        if token.kind == "space" and not depth and not conditional:
            space += token.text
            continue
        starts = token.kind in ("open", "comment") or token.word in CLAUSES
        if found and token.word in CONTINUED.get(_words(found[-1]), ()):
            starts = False
        if (starts and not depth and not conditional) or not found:
            keyword = token.word or token.kind
            found.append(Clause(keyword, space + token.text))
        else:
            found[-1].text += space + token.text
        space = ""
        if token.kind in ("open", "close"):
            conditional = token.kind == "open"
            if not conditional:
                _name_conditional(found[-1])
    return found


def _words(clause: Clause) -> str:
    """The keyword of a clause that can still take a second keyword, else nothing."""
    count = len(clause.tokens)
    limit = {"NOT": 1, "DEFAULT": 1, "GENERATED": 2, "CONSTRAINT": 2}.get(clause.keyword, 0)
    return clause.keyword if count <= limit else ""


def _name_conditional(clause: Clause) -> None:
    # /*!80023 INVISIBLE */ is the clause INVISIBLE to whoever looks for it; what only MariaDB reads
    # is a comment elsewhere.
    words = [token.word for token in clause.tokens if token.word]
    only_there = clause.text.lstrip().startswith("/*M!")
    clause.keyword = "comment" if only_there else words[0] if words else clause.keyword


# -- tables ------------------------------------------------------------------------------------


@dataclass
class Item:
    """A line between the brackets that is not a column.

    `kind` is primary, index, foreign, check or other; `parts` its tokens.
    """

    kind: str
    parts: list[Token]

    @property
    def unique(self) -> bool:
        return self.parts[0].word == "UNIQUE"

    @property
    def name(self) -> str:
        """The first identifier: the index's or the constraint's own name."""
        return next((token.name for token in self.parts if token.kind == "name"), "")

    def rename(self, name: str) -> None:
        """Give the constraint another name."""
        at = next(index for index, token in enumerate(self.parts) if token.kind == "name")
        self.parts[at] = Token("name", "`" + name.replace("`", "``") + "`")

    @property
    def mentions(self) -> set[str]:
        """Every identifier inside brackets: key columns, columns of expressions."""
        return {
            token.name for _, token, depth in _depths(self.parts) if depth and token.kind == "name"
        }

    @property
    def reference(self) -> tuple[str | None, str]:
        """Schema (None when unqualified) and table a foreign key refers to."""
        at = self._reference_at()
        first = self.parts[at].name
        if self.parts[at + 1].text == ".":
            return first, self.parts[at + 2].name
        return None, first

    def repoint(self, schema: str) -> None:
        """Qualify the referenced table with another schema."""
        at = self._reference_at()
        name = Token("name", "`" + schema.replace("`", "``") + "`")
        if self.parts[at + 1].text == ".":
            self.parts[at] = name
        else:
            self.parts[at:at] = [name, Token("mark", ".")]

    def _reference_at(self) -> int:
        seen = False
        for index, token in enumerate(self.parts):
            if seen and token.kind == "name":
                return index
            seen = seen or token.word == "REFERENCES"
        raise InternalError(f"not a foreign key: {text_of(self.parts)}")


@dataclass
class CreateTable:
    """A CREATE TABLE statement in its parts; `options` are the tokens after the bracket."""

    head: str
    columns: list[ColumnText]
    items: list[Item]
    options: list[Token] = field(default_factory=list)

    def render(self, definitions: Sequence[str] | None = None) -> str:
        """The statement, with other column lines when `definitions` are given."""
        lines = list(definitions or (column.render() for column in self.columns))
        lines += [text_of(item.parts) for item in self.items]
        return self.head + "(\n  " + ",\n  ".join(lines) + "\n)" + text_of(self.options)

    def option_at(self, key: str) -> int | None:
        """Where in `options` the value of `KEY=value` is."""
        for index, token in enumerate(self.options[:-2]):
            if token.word == key and self.options[index + 1].text == "=":
                return index + 2
        return None


def parse(create: str) -> CreateTable:
    """Take the text of SHOW CREATE TABLE apart; raises `InternalError` when it is not one."""
    parts = tokens(create)
    first = next((index for index, token, depth in _depths(parts) if depth), None)
    if first is None:
        raise InternalError("not the text of a CREATE TABLE", context={"sql": create[:4000]})
    table = CreateTable(text_of(parts[:first]), [], [])
    line: list[Token] = []
    for index, token, depth in _depths(parts[first:]):
        if depth == 1 and token.text in (",", ")"):
            _add(table, line)
            line = []
            if token.text == ")":
                table.options = parts[first + index + 1 :]
                return table
        elif index:
            line.append(token)
    raise InternalError("a bracket is not closed", context={"sql": create[:4000]})


def _add(table: CreateTable, line: list[Token]) -> None:
    while line and line[0].kind == "space":
        line.pop(0)
    while line and line[-1].kind == "space":
        line.pop()
    if line[0].kind == "name":
        table.columns.append(parse_column(line))
    else:
        table.items.append(Item(_kind(line), line))


def _kind(line: Sequence[Token]) -> str:
    words = [token.word for _, token, depth in _depths(line) if token.word and not depth]
    if "FOREIGN" in words:
        return "foreign"
    if words[:1] == ["PRIMARY"]:
        return "primary"
    if "CHECK" in words[:2]:
        return "check"
    if words and words[0] in ("UNIQUE", "KEY", "INDEX", "FULLTEXT", "SPATIAL", "VECTOR"):
        return "index"
    return "other"
