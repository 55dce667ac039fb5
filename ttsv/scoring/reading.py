"""Reading the form of a normalized text: splits at the outermost separators and leaves the scalars inside as text."""

import re
from itertools import product

from ttsv.scoring.equations import is_name
from ttsv.scoring.normalize import UnreadableError, matching_parenthesis
from ttsv.scoring.quantity import NUMBER_WORDS, read_based, read_quantity
from ttsv.scoring.shape import (
    Difference,
    Equation,
    Group,
    Inequality,
    Listing,
    Matrix,
    Member,
    Ratio,
    Scalar,
    Shape,
    UnionOf,
    Words,
)
from ttsv.scoring.splitting import MAX_ITEMS, split

_WORD_SEPARATOR = re.compile(
    r"\\text\s*\{\s*,?\s*(?:or|and)\s*\}|(?<![A-Za-z\\])(?:or|and)(?![A-Za-z])|\\(?:lor|vee|land|wedge)(?![A-Za-z])"
)
_RELATION = re.compile(r"\\(?:le|ge|ne|approx|equiv)(?![A-Za-z])|(?<![:])=|<|>")
_IN = re.compile(r"\\in(?![A-Za-z])")
_CUP = re.compile(r"\\cup(?![A-Za-z])")
_DIFFERENCE = re.compile(r"\\(?:setminus|backslash)(?![A-Za-z])|-(?=\s*\\\{)")
THOUSANDS = re.compile(
    r"[+-]?(?:\\\$)?\s*\d{1,3}(?:,\d{3})+(?:\.\d+)?(?:\s*(?:\\%|\\degree|\\text\s*\{[^{}]*\}(?:\^\{?\d\}?)?))?"
)
_ENVIRONMENT = re.compile(
    r"[\[(|]?\s*\\begin\{(?P<name>[a-zA-Z]*(?:matrix|array))\*?\}(?:\s*\{[lcr|]+\})?"
    r"(?P<body>.*)\\end\{(?P=name)\*?\}\s*[\])|]?"
)
_PLAIN_WORDS = re.compile(r"(?=.*(?:[A-Za-z]{4}|[A-Za-z]{3,} |[ ][A-Za-z]{3}))[A-Za-z][A-Za-z .,'\-]*")
_FUNCTION_WORDS = re.compile(
    r"(?:np\.|math\.)?(?:arc)?(?:sin|cos|tan|cot|sec|csc|ln|log|exp|sqrt|pi|theta|alpha|beta|omega|abs|inf)(?![a-zA-Z])"
)


def read(text: str) -> Shape:
    """Read the form of a normalized text. Raises :class:`UnreadableError` for an empty part or too many parts."""
    text = text.strip(" ")
    if not text:
        raise UnreadableError("empty expression")
    for reader in (_words, _listing, _union, _difference, _membership, _relation, _matrix, _group, _ratio):
        shape = reader(text)
        if shape is not None:
            return shape
    return _plus_minus(text)


def unwrap_text(text: str) -> str:
    r"""Replace ``\text{x}`` by x."""
    return re.sub(r"\s+", " ", re.sub(r"\\text\s*\{([^{}]*)\}", r" \1 ", text)).strip()


_NAMED_SETS = {
    r"\mathbb{R}": re.compile(r"(?:all|the|any)? ?(?:set of )?(?:all )?reals?(?: numbers?)?", re.IGNORECASE),
    r"\emptyset": re.compile(
        r"(?:there (?:are|is) )?(?:no|none)(?: real)? ?(?:solutions?)?|(?:the )?empty set", re.IGNORECASE
    ),
}


def _words(text: str) -> Shape | None:
    number = NUMBER_WORDS.get(unwrap_text(text).lower())
    if number is not None:
        return Scalar(str(number))
    found = _text_answer(text)
    if found is None or found.text.lower() in ("no", "none", "no real", "real"):
        return found
    return next((Scalar(name) for name, words in _NAMED_SETS.items() if words.fullmatch(found.text.strip(" ."))), found)


def _text_answer(text: str) -> Words | None:
    if r"\text" in text:
        if read_based(text) is not None:
            return None
        whole = re.fullmatch(r"\\text\s*\{([^{}]*)\}", text)
        if whole:
            inside = whole[1].strip()
            several = re.search(r",|;|\band\b|\bor\b", inside) is not None
            number = re.fullmatch(r"[-+]?[\d.,/]+\s*(?:\\?%)?", inside) is not None
            return None if several or number or not inside else Words(inside)
        if _WORD_SEPARATOR.search(text) or re.search(_RELATION, text):
            return None
        core = read_quantity(re.sub(r"_\s*\{\s*\\text\s*\{[^{}]*\}\s*\}|_\s*\\text\s*\{[^{}]*\}", "", text)).core
        if r"\text" in core and not re.search(r"\\(?:begin|frac|sqrt)|[,;]", core):
            return Words(unwrap_text(text))
        return None
    if _PLAIN_WORDS.fullmatch(text) and not _FUNCTION_WORDS.match(text) and not re.search(r"\b(?:and|or)\b|,", text):
        return Words(text)
    return None


_JOINERS = {"and": "and|wedge", "or": "or|vee"}


def _listing(text: str) -> Shape | None:
    whole = re.fullmatch(r"\\text\s*\{([^{}]*)\}", text)
    text = whole[1].strip() if whole else text
    if THOUSANDS.fullmatch(text):
        return None
    parts, found = split(text, _WORD_SEPARATOR)
    joiner = next((j for j, words in _JOINERS.items() if found and all(re.search(words, f) for f in found)), ",")
    items: list[str] = []
    for part in parts:
        items.extend(_comma_parts(part.strip(" ,;")))
    items = [item for item in items if item]
    if len(items) < 2:
        return read(items[0]) if items and items[0] != text and (found or len(parts) > 1) else None
    return Listing(tuple(_flatten(items)), joiner)


def _comma_parts(text: str) -> list[str]:
    if THOUSANDS.fullmatch(text):
        return [text]
    pieces, found = split(text, re.compile(r";"))
    if found:
        return [item for piece in pieces for item in _comma_parts(piece)]
    pieces, _ = split(text, re.compile(r",(?=\s)|,\\newrow"))
    if len(pieces) > 1 and any(THOUSANDS.fullmatch(piece) for piece in pieces):
        return [item for piece in pieces for item in _comma_parts(piece)]
    pieces, found = split(text, re.compile(r","))
    if found and not all(pieces):
        raise UnreadableError("an empty place in a list")
    return pieces


def _flatten(items: list[str]) -> list[Shape]:
    flat: list[Shape] = []
    for item in items:
        shape = read(item)
        flat.extend(shape.items if isinstance(shape, Listing) else (shape,))
    return flat


def _union(text: str) -> UnionOf | None:
    parts, found = split(text, _CUP)
    return UnionOf(tuple(read(part) for part in parts)) if found else None


def _difference(text: str) -> Difference | None:
    parts, found = split(text, _DIFFERENCE)
    return Difference(read(parts[0]), read(parts[1])) if len(found) == 1 and all(parts) else None


def _membership(text: str) -> Member | None:
    glued = re.fullmatch(r"(?P<name>[A-Za-z])\s*(?P<interval>\(.*,.*\]|\[.*,.*\))", text)
    if glued and read(glued["interval"]):
        return Member(glued["name"], read(glued["interval"]))
    parts, found = split(text, _IN)
    return Member(parts[0], read(parts[1])) if len(found) == 1 else None


def _relation(text: str) -> Shape | None:
    sides, operators = split(text, _RELATION)
    if not operators:
        return None
    if r"\approx" in operators:
        exact = sides[: operators.index(r"\approx") + 1]
        if len(exact) > 1:
            return Equation(tuple(exact))
        return Equation(tuple(sides[:2])) if is_name(exact[0]) else read(exact[0])
    if all(operator in ("=", r"\equiv") for operator in operators):
        if not all(sides):
            raise UnreadableError("an equation lacks a side")
        return _with_both_signs(sides)
    if r"\equiv" in operators or "=" in operators or not all(sides):
        raise UnreadableError("relations of several kinds")
    return Inequality(tuple(sides), tuple(operators))


def _with_both_signs(sides: list[str]) -> Shape:
    if not re.search(r"\\(?:pm|mp)(?![A-Za-z])", sides[-1]) or re.search("[,;]", sides[-1]):
        return Equation(tuple(sides))
    return Listing(tuple(Equation((*sides[:-1], value)) for value in _both_signs(sides[-1])))


_TRANSPOSED = re.compile(
    r"(?P<body>.*[\])}])\s*\^\s*(?:\{\s*(?:T|\\top|\\intercal|\\text\{T\})\s*\}|T|\\top|\\intercal)"
)


def _matrix(text: str) -> Matrix | None:
    transposed = _TRANSPOSED.fullmatch(text)
    if transposed is None:
        return _untransposed(text)
    whole = read(transposed["body"])
    if isinstance(whole, Group) and whole.left != "{":
        return Matrix(tuple((item,) for item in whole.items), "matrix")
    if not isinstance(whole, Matrix) or len({len(row) for row in whole.rows}) != 1:
        return None
    return Matrix(tuple(zip(*whole.rows, strict=True)), whole.kind)


def _untransposed(text: str) -> Matrix | None:
    factor, start = "", text.find(r"\begin{")
    if start > 0 and not re.fullmatch(r"\s*[\[(|]\s*", text[:start]):
        factor = re.sub(r"\\(?:cdot|times)\s*$|[\[(]\s*$", "", text[:start].strip()) if text.endswith("}") else ""
        text = text[start:] if factor else text
    match = _ENVIRONMENT.fullmatch(text)
    factor = "-1" if factor == "-" else factor
    if match is None or r"\begin" in match["body"] or len(split(factor, re.compile("[+]"))[0]) > 1:
        return None
    rows = [row for row in split(match["body"], re.compile(r"\\newrow(?![A-Za-z])"))[0] if row]
    cells = tuple(tuple(read(cell) for cell in split(row, re.compile("&"))[0]) for row in rows)
    if factor:
        cells = tuple(tuple(read(f"({factor})({cell})") for cell in split(row, re.compile("&"))[0]) for row in rows)
    determinant = match["name"].lower().startswith("v") or text.startswith("|")
    return Matrix(cells, "determinant" if determinant else "matrix")


_POINT_NAME = re.compile(r"^[ABD-Z]'?\s*(?=\([^()]*,[^()]*\)$)")  # P(2,4); C(n,k) is a number
_BRACKETS = re.compile(r"(?P<left>\\\{|\\langle|[(\[\]])(?P<body>.*)(?P<right>\\\}|\\rangle|[)\]\[])", re.DOTALL)


def _group(text: str) -> Shape | None:
    text = _POINT_NAME.sub("", text)
    match = _BRACKETS.fullmatch(text)
    if match is None:
        return None
    left, right = _open_sign(match["left"]), _close_sign(match["right"])
    body = match["body"].strip()
    if left != "{" and match["left"] != "]" and match["right"] != "[" and not _wholly_bracketed(text):
        return None
    if left == "{":
        return _set(body)
    marks, _ = split(body, re.compile(r"[,;]"))
    if len(marks) < 2:
        return None if left != "<" else Group("<", ">", (read(body),))
    if not all(marks):
        raise UnreadableError("an empty place in a tuple")
    if r"\mp" in body:  # upper signs together, lower signs together
        return Listing(
            tuple(Group(left, right, tuple(map(read, split(one, re.compile(r"[,;]"))[0]))) for one in _both_signs(body))
        )
    return _expanded(left, right, [read(part) for part in marks])


def _wholly_bracketed(text: str) -> bool:
    if text.startswith("\\langle"):
        return text.find("\\rangle") == len(text) - len("\\rangle")
    return matching_parenthesis(text, 0) == len(text) - 1


def _open_sign(token: str) -> str:
    return {"\\{": "{", "\\langle": "<", "]": "("}.get(token, token)


def _close_sign(token: str) -> str:
    return {"\\}": "}", "\\rangle": ">", "[": ")"}.get(token, token)


def _expanded(left: str, right: str, items: list[Shape]) -> Shape:
    choices = [item.items if isinstance(item, Listing) else (item,) for item in items]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > MAX_ITEMS:
        raise UnreadableError("too many signs to choose")
    groups = [Group(left, right, tuple(chosen)) for chosen in product(*choices)]
    return groups[0] if len(groups) == 1 else Listing(tuple(groups))


def _set(body: str) -> Shape | None:
    if not body:
        return Group("{", "}", ())
    parts, found = split(body, re.compile(r"\||\\mid(?![A-Za-z])|:"))
    if len(found) == 1 and re.search(r"\\(?:le|ge|ne|in)(?![A-Za-z])|[<>=]", parts[1]):
        return read(parts[1])
    inside = [read(part) for part in split(body, re.compile(r"[,;]"))[0]]
    flat = [item for shape in inside for item in (shape.items if isinstance(shape, Listing) else (shape,))]
    distinct: dict[str, Shape] = {repr(shape).replace(" ", ""): shape for shape in flat}
    return Group("{", "}", tuple(distinct.values()))


def _ratio(text: str) -> Ratio | None:
    parts, found = split(text, re.compile(":"))
    return Ratio(tuple(parts)) if found and all(parts) else None


def _plus_minus(text: str) -> Shape:
    if not re.search(r"\\(?:pm|mp)(?![A-Za-z])", text):
        return Scalar(text)
    upper, lower = _both_signs(text)
    return Listing((Scalar(upper.removeprefix("+").strip()), Scalar(lower)))


def _both_signs(text: str) -> tuple[str, str]:
    upper = re.sub(r"\\mp(?![A-Za-z])", "-", re.sub(r"\\pm(?![A-Za-z])", "+", text))
    lower = re.sub(r"\\mp(?![A-Za-z])", "+", re.sub(r"\\pm(?![A-Za-z])", "-", text))
    return upper.strip(), lower.strip()
