"""Prompts are exact: the release's to the byte, a chat template's with its special tokens once."""

from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from tokenizers.decoders import ByteLevel
from transformers import PreTrainedTokenizerFast

from ttsv.prompts import ChatTemplate, TextTemplate, render_prompts
from ttsv.records import Problem, UserError

CONF = Path(__file__).resolve().parents[1] / "conf" / "prompt"
QUESTION = "What is $\\frac{1}{2}$ of {4}?"
RELEASE = (
    "<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n"
    "<|im_start|>user\n" + QUESTION + "<|im_end|>\n<|im_start|>assistant\n"
)
QWEN_MATH_STYLE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nPlease reason step by step, and put your final answer "
    "within \\boxed{}.<|im_end|>\n{% endif %}{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA_STYLE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' and no_system %}"
    "{{ raise_exception('System role not supported') }}{% endif %}[{{ message['role'] }}] {{ message['content'] }}"
    "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}{% if enable_thinking %}<think>{% endif %}"
)


def tokenizer(chat_template: str | None = QWEN_MATH_STYLE, adds_bos: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with a token for each byte and the chat markers, made in memory."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = ByteLevel()
    inner.add_special_tokens(["<s>", "<|im_start|>", "<|im_end|>"])
    if adds_bos:
        inner.post_processor = processors.TemplateProcessing(
            "<s> $A", special_tokens=[("<s>", inner.token_to_id("<s>"))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="<|im_end|>", chat_template=chat_template
    )


def template(name: str):
    config = OmegaConf.create({"prompt": OmegaConf.load(CONF / f"{name}.yaml"), "model": {"thinking": True}})
    return instantiate(config.prompt, _convert_="all")


def problem(question: str = QUESTION, name: str = "p1") -> Problem:
    return Problem(name, question, "2", "toy")


def test_release_template_is_the_released_one_byte_for_byte():
    assert template("release").render(QUESTION, None).encode() == RELEASE.encode()


def test_chat_prompt_equals_the_release_where_the_template_is_qwens():
    assert template("chat").render(QUESTION, tokenizer()) == RELEASE


def test_the_templates_own_system_message_is_used_when_none_is_given():
    assert ChatTemplate().render(QUESTION, tokenizer()) == RELEASE


def test_question_alone_is_the_question():
    assert template("question").render(QUESTION, None) == QUESTION


def test_question_boxed_adds_the_instruction_only():
    expected = QUESTION + "\nPlease reason step by step, and put your final answer within \\boxed{}."
    assert template("question_boxed").render(QUESTION, None) == expected


def test_few_shot_has_four_boxed_examples_as_turns_before_the_question():
    text = template("few_shot").render(QUESTION, tokenizer())
    turns = text.split("<|im_start|>")[1:]
    assert [turn.split("\n")[0] for turn in turns] == ["system", *["user", "assistant"] * 4, "user", "assistant"]
    assert all("\\boxed{" in turn for turn in turns[2:9:2])
    assert turns[9] == f"user\n{QUESTION}<|im_end|>\n"
    assert turns[10] == "assistant\n"


def test_shots_choose_how_many_examples_and_cannot_exceed_them():
    examples = [{"question": "1+1?", "answer": "\\boxed{2}"}, {"question": "2+2?", "answer": "\\boxed{4}"}]
    text = ChatTemplate(examples=examples, shots=1).render(QUESTION, tokenizer())
    assert "1+1?" in text
    assert "2+2?" not in text
    with pytest.raises(UserError, match="3 shots, but has 2 examples"):
        ChatTemplate(examples=examples, shots=3)
    with pytest.raises(UserError, match="example 1 has the keys"):
        ChatTemplate(examples=[{"q": "1"}], shots=1)


def test_an_instruction_follows_the_question_in_the_user_turn():
    text = ChatTemplate(instruction="Box it.").render(QUESTION, tokenizer())
    assert f"user\n{QUESTION}\n\nBox it.<|im_end|>" in text


def test_chat_template_arguments_reach_the_template():
    thinking = ChatTemplate(chat_template_kwargs={"enable_thinking": True})
    assert thinking.render(QUESTION, tokenizer(LLAMA_STYLE)).endswith("<think>")


@pytest.mark.parametrize("name", ["chat", "few_shot", "release"])
def test_a_prompt_never_begins_with_two_bos_tokens(name):
    made = tokenizer(LLAMA_STYLE, adds_bos=True)
    (prompt,) = render_prompts([problem()], template(name), made, 5000)
    assert prompt.token_ids[0] == made.bos_token_id
    assert prompt.token_ids[1:].count(made.bos_token_id) == 0


def test_text_prompts_are_tokenised_with_the_tokenizers_defaults():
    made = tokenizer(adds_bos=True)
    (prompt,) = render_prompts([problem()], template("release"), made, 5000)
    assert list(prompt.token_ids) == made(RELEASE)["input_ids"]


def test_a_tokenizer_without_chat_template_is_an_error_that_names_another_prompt():
    with pytest.raises(UserError, match=r"no chat template.*prompt=release"):
        template("chat").render(QUESTION, tokenizer(chat_template=None))


def test_a_chat_template_that_refuses_says_why_and_what_to_set():
    refusing = ChatTemplate(system="s", chat_template_kwargs={"no_system": True})
    with pytest.raises(UserError, match=r"System role not supported.*prompt\.system=null"):
        refusing.render(QUESTION, tokenizer(LLAMA_STYLE))


@pytest.mark.parametrize("text", ["no place", "{question} twice {question}"])
def test_a_text_template_needs_exactly_one_place_for_the_question(text):
    with pytest.raises(UserError, match="must contain"):
        TextTemplate(text)


def test_a_question_that_holds_the_placeholder_is_not_expanded_again():
    assert TextTemplate("<{question}>").render("{question}") == "<{question}>"


def test_an_overlong_prompt_is_an_error_with_problem_length_and_limit():
    with pytest.raises(UserError, match=r"'p2' of toy: its prompt has 11 tokens, the limit is 10"):
        render_prompts([problem("x" * 10), problem("x" * 11, "p2")], template("question"), tokenizer(), 10)


def test_truncation_cuts_on_the_right_and_the_text_with_it():
    prompts = render_prompts(
        [problem("abcdef"), problem("abcde", "p2")], template("question"), tokenizer(), 5, "truncate_right"
    )
    assert [prompt.text for prompt in prompts] == ["abcde", "abcde"]
    assert prompts[0].token_ids == prompts[1].token_ids


def test_truncation_equals_the_tokenizers_own():
    made = tokenizer(adds_bos=True)
    (prompt,) = render_prompts([problem()], template("release"), made, 30, "truncate_right")
    assert list(prompt.token_ids) == made(RELEASE, truncation=True, max_length=30)["input_ids"]
    assert RELEASE.startswith(prompt.text)


def test_prompts_keep_the_order_of_the_problems():
    prompts = render_prompts([problem(name="b"), problem(name="a")], template("question"), tokenizer(), 99)
    assert [prompt.problem_id for prompt in prompts] == ["b", "a"]
    assert prompts[0].text == QUESTION


def test_an_unknown_way_with_overlong_prompts_is_refused():
    with pytest.raises(UserError, match="error, truncate_right"):
        render_prompts([], template("question"), tokenizer(), 99, "truncate_left")  # type: ignore[arg-type]
