"""Tables of equal spellings: Unicode, LaTeX layout and synonyms. They change the spelling and never the meaning."""

import re
from collections.abc import Callable

SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿ", "0123456789+-()n")
SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋", "0123456789+-")
VULGAR = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5"}
VULGAR |= {"⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8"}
UNICODE = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ",
    "÷": r"\div ", "∗": "*", "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≠": r"\ne ",
    "≈": r"\approx ", "±": r"\pm ", "∓": r"\mp ", "∞": r"\infty ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ",
    "∅": r"\emptyset ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "°": r"\degree ", "º": r"\degree ", "√": r"\sqrt ",
    "∛": r"\sqrt[3]", "π": r"\pi ", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ",
    "δ": r"\delta ", "λ": r"\lambda ", "μ": r"\mu ", "ω": r"\omega ", "φ": r"\phi ", "ϕ": r"\phi ",
    "σ": r"\sigma ", "τ": r"\tau ", "ρ": r"\rho ", "ε": r"\epsilon ", "⌊": r"\lfloor ", "⌋": r"\rfloor ",
    "⌈": r"\lceil ", "⌉": r"\rceil ", "⟨": r"\langle ", "⟩": r"\rangle ", "∠": r"\angle ", "′": "'", "’": "'",
    "‘": "'", "“": '"', "”": '"', "\u200b": "", "\ufeff": "", "％": r"\%", "¢": r"\text{cents}",
}  # fmt: skip

_TEXT = "text|mbox|hbox|textrm|textnormal|textbf|textit|textsf|texttt|emph|textup|underline"
_FONTS = r"mathrm|mathit|mathbf|mathsf|mathtt|boldsymbol|bm|bold|operatorname\*?|pmb"
_FUNCTIONS = (
    "arcsin|arccos|arctan|arsinh|arcosh|artanh|sin|cos|tan|cot|sec|csc|ln|log|exp|gcd|lcm|sinh|cosh|tanh|max|min"
)

Rule = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]

LAYOUT: list[Rule] = [
    (re.compile(r"(?<!\\)\\[()]|(?<!\\)\\\](?!\w)|(?<!\\)\\\[(?!\d+(?:pt|ex|em|mm)\])"), " "),  # \( \) \[ \]
    (re.compile(r"(?<!\\)\$"), " "),
    (re.compile(r"(?<=\d)(?:\{,\}|,(?:\s*\\!)+|\\,|\\;|\\ |~|\u202f|\u2009)\s*(?=\d{3}(?!\d))"), ""),  # thousands
    (re.compile(r"(?<=\d),(?:\s*\\!)+\s*(?=\d)"), ""),
    (re.compile(r"\\(?:left|right|middle)\s*\.(?!\d)"), " "),
    (re.compile(r"\\(?:left|right|middle|[bB]igg?[lrm]?)\b\s*(?=[\\()\[\]|/<>.{}])"), ""),
    (re.compile(r"\\(?:displaystyle|textstyle|scriptstyle|limits|nolimits|rm|bf|it|sf|tt|boldmath)(?![A-Za-z])"), " "),
    (re.compile(r"\\(?:quad|qquad|thinspace|hfill|hline)(?![A-Za-z])"), " "),
    (re.compile(r"\\(?:tiny|small|normalsize|large|Large|LARGE|huge|Huge)(?![A-Za-z])"), " "),
    (re.compile(r"\\(?:text)?color\s*\{[^{}]*\}"), " "),
    (re.compile(r"\\[hv]space\*?\{[^{}]*\}|\\[hv]?phantom\{[^{}]*\}|\\label\{[^{}]*\}|\\tag\{[^{}]*\}"), " "),
    (re.compile(r"\\[,;:!> ](?![A-Za-z]*\{)|\\[,;:!> ]|~"), " "),
    (re.compile(r"\\\s(?=\s*\S)"), " "),
]  # fmt: skip

_SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
# Possessive quantifiers: a run of units must not be split in more than one way.
_POWER = r"(?:\s*+\^\s*+(?:\{\s*+-?\d\s*+\}|-?\d))?+"
_UNIT = rf"\\(?:text|mathrm)\s*\{{[^{{}}]*\}}{_POWER}"
_UNITS = rf"(?<=[\d}})])(?!\s*\\mathrm\s*\{{\s*[ied]\s*\}}\s*$)(?:\s*+(?:/|\\cdot|\\times)?+\s*+{_UNIT})++$"

_DECLARED = r"[A-Za-z](?:\s*,\s*[A-Za-z])*\s*\\in\s*\\mathbb\{[A-Z]\}(?:\s*[_^]\s*(?:\{[^{}]*\}|[+*]))?"
CLAUSE = re.compile(
    rf"(?<=[^\s,;])\s*(?:[,;(]\s*\(?\s*{_DECLARED}"
    rf"|[,;]?\s*\(?\s*(?:\\text\s*\{{[^{{}}]*\b(?:for|where|with)\b[^{{}}]*\}}|\\forall)\s*"
    rf"(?:{_DECLARED}|[A-Za-z](?:\s*\\text\s*\{{\s*(?:is|are)\b[^{{}}]*\}})?))\s*\)?$"
)
r"""What is said about the letters after the answer: ``, k \in \mathbb{Z}``, ``\text{ for all } x``."""

SYNONYMS: list[Rule] = [
    (re.compile(r"\\(?:[dtc]|nice|s)frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\textdollar(?![A-Za-z])|\bUS\s*\\\$"), r"\\$"),
    (re.compile(r"\\mathbb\s*([A-Z])(?![A-Za-z])"), r"\\mathbb{\1}"),
    (re.compile(r"\\[dt]binom(?![A-Za-z])"), r"\\binom"),
    (re.compile(r"\\(?:geqslant|geqq|geq)(?![A-Za-z])"), r"\\ge "),
    (re.compile(r"\\(?:leqslant|leqq|leq)(?![A-Za-z])"), r"\\le "),
    (re.compile(r"\\neq(?![A-Za-z])|\\not\s*="), r"\\ne "),
    (re.compile(r"\\gt(?![A-Za-z])"), ">"),
    (re.compile(r"\\lt(?![A-Za-z])"), "<"),
    (re.compile(r"<="), r"\\le "),
    (re.compile(r">="), r"\\ge "),
    (re.compile(r"\\lbrace(?![A-Za-z])"), r"\\{"),
    (re.compile(r"\\rbrace(?![A-Za-z])"), r"\\}"),
    (re.compile(r"\\lbrack(?![A-Za-z])"), "["),
    (re.compile(r"\\rbrack(?![A-Za-z])"), "]"),
    (re.compile(r"\\(?:l|r)?vert(?![A-Za-z])"), "|"),
    (re.compile(r"\\varnothing(?![A-Za-z])"), r"\\emptyset"),
    (re.compile(r"\\(?:simeq|thickapprox|doteq)(?![A-Za-z])"), r"\\approx "),
    (re.compile(r"\\var(phi|epsilon|theta|rho|sigma)(?![A-Za-z])"), r"\\\1"),
    (re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))"), r"\\degree "),
    (re.compile(r"\^\s*\{?\s*\\degree\s*\}?|\\degree(?![A-Za-z])"), r"\\degree "),
    (re.compile(r"(?<!\\)%|\\%"), r"\\% "),
    (re.compile(r"\\(?:Reals|R)(?![A-Za-z])"), r"\\mathbb{R}"),
    (re.compile(r"\\bigcup(?![A-Za-z])"), r"\\cup "),
    (re.compile(r"\\colon(?![A-Za-z])"), ":"),
    (re.compile(rf"\\(?:{_TEXT})\s*(?=\{{)"), r"\\text"),
    (re.compile(r"(?<=[\d})])\s*\\mathrm\s*\{\s*(?![ied]\s*\})([A-Za-z])\s*\}"), r"\\text{\1}"),  # 5\mathrm{m}: a unit
    (re.compile(rf"(?<=[\d}})])\s*\\frac\s*\{{\s*({_UNIT})\s*\}}\s*\{{\s*({_UNIT})\s*\}}"), r"\1/\2"),
    (re.compile(_UNITS), lambda match: match[0].replace(r"\mathrm", r"\text")),
    (re.compile(rf"\\(?:{_FONTS})\s*\{{\s*(\\?[A-Za-z])\s*\}}(?!\s*\^?\{{?\\text)"), r"\1 "),
    (re.compile(r"\\(?:mathrm|mathit|mathsf|mathtt|rm)\s*(?=\{)"), r"\\text"),
    (re.compile(r"\\(?:mathbf|boldsymbol|bm|bold|pmb)\s*(?=\{)"), r"\\font"),
    (re.compile(rf"\\(?:operatorname\*?|text)\s*\{{\s*({_FUNCTIONS})\s*\}}"), r"\\\1 "),
    (re.compile(r"\\operatorname\*?\s*(?=\{)"), r"\\text"),
    (re.compile(r"\\text\s*\{((?=[^{}]*\d)(?:[a-z]\s*=)?[^{}A-Za-z]*)\}"), r" \1 "),  # \text{809}, \text{x = 5}
    (re.compile(r"^\s*\\text\s*\{\s*([-+]?[\d.,/]*\d)\s+([a-z][a-z ]*)\}\s*$"), r"\1\\text{ \2}"),  # \text{7 days}
    (re.compile(r"(?<=\d)\s*\^\s*\{\s*\\text\s*\{\s*(?:st|nd|rd|th)\s*\}\s*\}"), ""),
    *[
        (re.compile(rf"(?<=[\d}}])\s*(\\text\s*\{{\s*)?{word}s?(?![a-z])"), rf"\\times 10^{{{power}}}\1")
        for word, power in _SCALES.items()
    ],
    (re.compile(r"\\text\s*\{\s*\}"), " "),
    (re.compile(r"(?<=\d)\s*\\text\s*\{\s*to\s*\}\s*(?=\d)|(?<=\d) to (?=\d)"), ":"),
    (re.compile(r"\(\s*(?:\\text\s*\{\s*)?mod(?![a-z])\s*\}?\s*(\w+)\s*\)"), r"\\bmod \1"),
    (re.compile(r"\\text\s*\{\s*\(?\s*mod(?![a-z])\s*(\w*)\s*\)?\s*\}"), r"\\bmod \1"),
    (re.compile(r"\\(?:pmod|mod|bmod)(?![A-Za-z])"), r"\\bmod "),
]  # fmt: skip
