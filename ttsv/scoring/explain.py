"""An account of one verdict: what was extracted, how both sides were read, how they were compared."""

from ttsv.scoring.base import Grader
from ttsv.scoring.choice import letter_of
from ttsv.scoring.extract import extract
from ttsv.scoring.math_grader import MathVerifyGrader
from ttsv.scoring.normalize import UnreadableError, normalize
from ttsv.scoring.reading import read
from ttsv.scoring.release_grader import ReleaseGrader
from ttsv.scoring.release_text import release_answer, rewritten


def explain(grader: Grader, gold: str, text: str) -> str:
    """Return the account, one step a line."""
    lines = [f"grader     {grader.name}, version {grader.version}", f"completion ...{text[-160:]!r}"]
    if isinstance(grader, ReleaseGrader):
        lines += [f"answer     {release_answer(text)!r}", f"gold       {gold!r}, rewritten {rewritten(gold)!r}"]
    else:
        extraction = extract(text)
        lines += [f"extracted  {extraction.answer!r} ({extraction.why})", *_reading("gold", gold)]
        lines += _reading("answer", extraction.answer) if extraction.answer is not None else []
        if isinstance(grader, MathVerifyGrader) and extraction.answer is not None:
            lines += grader.describe(gold, extraction.answer)
    verdict = grader.grade([gold], [text])[0]
    lines.append(f"verdict    {'correct' if verdict.correct else 'wrong'}, flag {verdict.flag}: {verdict.why}")
    return "\n".join(lines)


def _reading(side: str, text: str) -> list[str]:
    letter = letter_of(text, bare=False)
    if letter is not None:
        return [f"{side:<10} {text!r} is the option {letter}"]
    try:
        plain = normalize(text)
        return [f"{side:<10} {text!r} normalized {plain!r}", f"{'':<10} read as {read(plain) if plain else 'nothing'}"]
    except (UnreadableError, RecursionError) as error:
        return [f"{side:<10} {text[:200]!r} cannot be read: {error}"]
