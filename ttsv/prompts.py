"""From a question to the exact text and token ids that a model is given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

from ttsv.records import Problem, Prompt, UserError

Overlong = Literal["error", "truncate_right"]
_SLOT = "{question}"


class Template(Protocol):
    """A way to ask a question.

    ``add_special_tokens`` says whether the tokenizer may add the special tokens of its own defaults (such as a BOS)
    when it encodes the rendered text; False where the text has them already.
    """

    @property
    def add_special_tokens(self) -> bool:
        """Whether the tokenizer's default special tokens are added to the rendered text."""
        ...

    def render(self, question: str, tokenizer: Any) -> str:
        """The whole prompt, ending where the model's answer begins."""
        ...


@dataclass(frozen=True)
class TextTemplate:
    """A fixed text around the question: ``text`` holds the placeholder ``{question}`` exactly once.

    All other braces stand for themselves, so ``\\boxed{}`` needs no escaping.
    """

    text: str
    add_special_tokens: bool = True

    def __post_init__(self) -> None:
        if self.text.count(_SLOT) != 1:
            raise UserError(f"prompt text {self.text!r} must contain {_SLOT} once, not {self.text.count(_SLOT)} times")

    def render(self, question: str, tokenizer: Any = None) -> str:
        """The text with the question in its place; the tokenizer is not used."""
        return self.text.replace(_SLOT, question)


@dataclass(frozen=True)
class ChatTemplate:
    """The tokenizer's own chat template, with an optional system message, instruction and worked examples.

    ``system`` None leaves the system turn to the template (some write one of their own). ``instruction`` follows every
    question, after an empty line. The first ``shots`` of ``examples`` (``question``, ``answer``) come first, as turns
    of user and assistant, so that the template's end of turn also ends the answer. ``chat_template_kwargs`` go to the
    template (for example ``enable_thinking``); templates ignore those they do not know.
    """

    system: str | None = None
    instruction: str | None = None
    examples: Sequence[Mapping[str, str]] = ()
    shots: int = 0
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    # A rendered chat template holds its special tokens already, a BOS among them where the model wants one.
    add_special_tokens: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.shots <= len(self.examples):
            raise UserError(f"prompt asks for {self.shots} shots, but has {len(self.examples)} examples")
        for number, example in enumerate(self.examples, start=1):
            if set(example) != {"question", "answer"}:
                raise UserError(f"prompt example {number} has the keys {sorted(example)}; expected question and answer")

    def render(self, question: str, tokenizer: Any) -> str:
        """The conversation up to the start of the assistant's turn; ``UserError`` if the tokenizer cannot write it."""
        if not getattr(tokenizer, "chat_template", None):
            name = getattr(tokenizer, "name_or_path", "") or "this model"
            raise UserError(
                f"the tokenizer of {name} has no chat template; choose another prompt, such as prompt=release"
            )
        try:
            text = tokenizer.apply_chat_template(
                self._messages(question), tokenize=False, add_generation_prompt=True, **self.chat_template_kwargs
            )
        # The template is a program of the model's authors, and raises what they chose, often at a system turn.
        except Exception as error:
            raise UserError(
                f"the tokenizer's chat template refuses this conversation: {error}. If it knows no system turn, set "
                "prompt.system=null and give the text as prompt.instruction"
            ) from error
        return str(text)

    def _messages(self, question: str) -> list[dict[str, str]]:
        messages = [] if self.system is None else [{"role": "system", "content": self.system}]
        for example in self.examples[: self.shots]:
            messages.append({"role": "user", "content": self._ask(example["question"])})
            messages.append({"role": "assistant", "content": example["answer"].strip()})
        return [*messages, {"role": "user", "content": self._ask(question)}]

    def _ask(self, question: str) -> str:
        return question if self.instruction is None else f"{question}\n\n{self.instruction}"


def render_prompts(
    problems: Sequence[Problem], template: Template, tokenizer: Any, max_tokens: int, overlong: Overlong = "error"
) -> list[Prompt]:
    """A prompt for each problem, in order, of at most ``max_tokens`` tokens.

    ``truncate_right`` cuts longer ones at the end, as the released code does at 2048; ``error`` raises ``UserError``
    naming the first such problem. The text of a cut prompt is cut with it.
    """
    if overlong not in get_args(Overlong):
        raise UserError(f"overlong is {overlong!r}; expected one of {', '.join(get_args(Overlong))}")
    if max_tokens < 1:
        raise UserError(f"max_tokens is {max_tokens}; expected at least 1")
    return [_prompt(problem, template, tokenizer, max_tokens, overlong) for problem in problems]


def _prompt(problem: Problem, template: Template, tokenizer: Any, max_tokens: int, overlong: Overlong) -> Prompt:
    text = template.render(problem.question, tokenizer)
    ids = tuple(tokenizer(text, add_special_tokens=template.add_special_tokens)["input_ids"])
    if not ids:
        raise UserError(f"problem {problem.id!r} of {problem.task}: its prompt {text!r} has no tokens")
    if len(ids) <= max_tokens:
        return Prompt(problem.id, text, ids)
    if overlong == "error":
        raise UserError(
            f"problem {problem.id!r} of {problem.task}: its prompt has {len(ids)} tokens, the limit is {max_tokens}; "
            "raise the limit, leave the problem out, or set overlong=truncate_right to cut it as the released code does"
        )
    kept = ids[:max_tokens]
    return Prompt(problem.id, _kept_text(text, kept, template, tokenizer), kept)


def _kept_text(text: str, kept: tuple[int, ...], template: Template, tokenizer: Any) -> str:
    if not getattr(tokenizer, "is_fast", False):
        return str(tokenizer.decode(kept))
    # Decoding need not give back the characters that were encoded; the offsets do.
    encoded = tokenizer(text, add_special_tokens=template.add_special_tokens, return_offsets_mapping=True)
    return text[: max(end for _, end in encoded["offset_mapping"][: len(kept)])]
