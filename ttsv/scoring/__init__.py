r"""From completions to verdicts: the graders and the conventions they keep.

Three graders, all built by keyword with defaults: :class:`MathVerifyGrader` (ours, the standard),
:class:`ReleaseGrader` (the behaviour of the released evaluation) and :class:`ChoiceGrader` (option letters).

The conventions of ``MathVerifyGrader``; each has rows in ``tests/data/grading_cases.jsonl``:

**Which text is the answer.** Only what follows the last ``</think>``. There, the last outermost ``\boxed`` or
``\fbox`` (braces or not); if it is empty or unclosed there is no answer, and earlier boxes are not consulted. Without
a box, the last explicit final-answer sentence ("the answer is ...", "Final answer: ...", what stands under such a
heading, or a GSM8K line ``#### 5``) and nothing else. What is cut off or incomplete, such as ``1/(1 +``, is never half-read.

**When two answers are equal.** When they are the same mathematical object in the form asked for:

- numbers exactly, however written: ``0.5``, ``1/2``, ``\frac12``, ``1\frac12`` (mixed, if the fraction is proper),
  ``1.6\times10^{-19}``, ``1.6e-19``, ``0.\overline{3}``, ``033``, thousands separators. 0.333 is not 1/3 and 3.14 is
  not pi. A word is its number (``five``, ``1.45 million``), a ratio ``3:2`` its quotient; a comma between digits
  separates thousands or values as the gold answer needs it. A slash between whole numbers is their fraction:
  ``4/3 \pi`` is four thirds of pi. A tolerance exists only where a task states one (``relative_tolerance``);
- expressions by their values: identical wherever both are defined, in 60 digits at several points (whole numbers
  where they count things: factorials, floors, signs that alternate). Factored and expanded forms are the same
  expression. ``\sqrt{x^2}`` is ``|x|``, not ``x``; in a formula of several letters, letters under a root are positive;
- ``(a,b)`` keeps order and arity and is a point or an open interval; ``[a,b)``, ``(a,b]`` and ``[a,b]`` differ from
  it and from one another; ``\{a,b\}`` is a set, without order or repetition, and not a tuple;
- ``a, b`` without brackets are values in any order, each counted; it equals the set of the same values, and the tuple
  in the same order; ``3`` is not ``3,3``;
- unions in any order; an inequality (``|x| > 1`` too), a membership ``x \in M``, a difference ``A \setminus B`` and the
  set they describe are the same set; conditions joined by "and", or with an exception (``x > 0, x \ne 9``), hold at
  once;
- matrices by shape and entries, whatever their brackets; a row or column equals the tuple of its entries;
  determinants are not matrices; ``(1,2)^T`` is a column;
- ``\pm`` means both values, and one of them is not both; with ``\mp``, upper signs go together and lower signs too;
- ``x = 5``, ``f(x) = 5`` and ``5`` are equal, as is a stated quantity ``a + b = 5``; ``x = 5`` and ``y = 5`` are not;
  an equation to be solved (``2x = 5``) is not its right side; other equations are equal if one is a constant multiple
  of the other. The letter of a function's argument is only a name (``f(n) = 2n`` is ``f(x) = 2x``), a subscript of a
  value's name may be left out, and what is said of the letters afterwards (``, k \in \mathbb{Z}``) is no part of it;
- a dot, a prime and ``\frac{dx}{dt}`` are the same derivative, which is a symbol and no quotient;
- ``50\%`` equals ``50`` (as the MATH answers have it) and 0.5; ``0.5`` does not equal ``50``;
- currency, units and degrees may be left out but must not contradict: 15 cm^2 is 15, is 0.0015 m^2, is not 15 m;
  inside a sine they are degrees. "13 or more" is not 13;
- a base subscript may be left out but must not differ: ``204_5`` is ``204``, is not ``204_6`` nor its value 54; so
  may a modulus, and ``10 \pmod 7`` is ``3 \pmod 7``;
- words by their letters, whatever case, spacing or leading article; option letters with or without brackets;
  variables keep their case: ``c`` is not ``C``.

**Flags.** ``ok``: compared. ``no_answer``: nothing to compare. ``unparsed``: the answer is not an expression, or is
beyond the bounds (2000 characters, nesting 20, 1500 digits, powers beyond 10^40000, factorials beyond 10 000).
``timeout`` and ``error``: the worker reached no verdict within its time or died; such a row counts as wrong and is
counted separately.

**Golds that are not expressions** are compared as text only; among the six data sets that is one of OlympiadBench's
(a formula followed by a sentence about its letters).
"""

from ttsv.scoring.base import Grader
from ttsv.scoring.choice import ChoiceGrader
from ttsv.scoring.math_grader import MathVerifyGrader
from ttsv.scoring.release_grader import ReleaseGrader

__all__ = ["ChoiceGrader", "Grader", "MathVerifyGrader", "ReleaseGrader"]
