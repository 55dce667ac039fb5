"""The cost model: what is counted, what decides time and memory, and that each method is charged for its own arithmetic."""

from dataclasses import replace

import pytest
import torch
from tiny_models import composed, evaluation, recipe, tiny_model

from ttsv.config import component
from ttsv.cost import (
    AS_STATED,
    DECODING_SHARE,
    LAUNCH_SECONDS,
    LAYER_SECONDS,
    LOSS_SHARE,
    MEAN_PROMPT_TOKENS,
    Seconds,
    Shape,
    Work,
    answers_of,
    decoding_time,
    loss_time,
    memory,
    seconds,
    shape,
    work_of,
)
from ttsv.machine import CARDS, Machine
from ttsv.methods.base import Method
from ttsv.models import dimensions_of
from ttsv.weights import ModelConfig

CPU = torch.device("cpu")
MODEL = Shape(1e9, 1e8, 2, 9e8, 10, 1000, cache=0.0, kept=1000.0)
NOTHING = Work()


def method(name: str) -> Method:
    built: Method = component(composed(f"method={name}", "scale=full").method, "method")
    return built


def test_tokens_are_counted_at_their_most() -> None:
    work = work_of(recipe("paper", length=20), 30, MEAN_PROMPT_TOKENS, 20)
    assert work.updates == 40
    assert work.rollout_tokens == 40 * 16 * 6
    assert work.loss_tokens == 40 * 16 * (20 + MEAN_PROMPT_TOKENS + 6)
    assert answers_of(evaluation("paper"), 30, 1).tokens == 30 * 3072
    assert NOTHING.rollout_tokens == NOTHING.loss_tokens == 0


def test_decoding_is_bound_by_the_slower_of_arithmetic_and_reading() -> None:
    by_reading = decoding_time(MODEL, Machine(CPU, 1e30, 1e9, 0), 30, 0, 100)
    assert by_reading == pytest.approx(100 * 1e9 * 2 / 1e9 / DECODING_SHARE)
    by_arithmetic = decoding_time(MODEL, Machine(CPU, 1e12, 1e30, 0), 30, 0, 100)
    assert by_arithmetic == pytest.approx(100 * 30 * 2 * 1e9 / 1e12 / DECODING_SHARE, rel=1e-2)
    with_cache = decoding_time(replace(MODEL, cache=1e6), Machine(CPU, 1e30, 1e9, 0), 30, 50, 100)
    assert with_cache == pytest.approx(by_reading + 100 * 30 * 100 * 1e6 / 1e9 / DECODING_SHARE)


def test_on_a_gpu_each_layer_adds_to_a_step_and_its_launches_to_a_micro_batch() -> None:
    card = replace(CARDS["H100"], flops=1e30, bandwidth=1e30)
    assert decoding_time(MODEL, card, 1, 0, 100) == pytest.approx(100 * 10 * LAYER_SECONDS)
    work = Work(updates=5, rows=16, prompt=150, cap=362, predicted=362, micro_rows=16)
    assert loss_time(MODEL, card, work) == pytest.approx(5 * 2 * 10 * LAUNCH_SECONDS)
    assert loss_time(MODEL, card, replace(work, micro_rows=4)) == pytest.approx(5 * 4 * 10 * LAUNCH_SECONDS)


@pytest.mark.parametrize(
    ("name", "rows", "milliseconds"),
    [
        ("qwen2_5_math_1_5b", 16, 5.0),
        ("qwen2_5_math_1_5b", 64, 6.2),
        ("qwen2_5_math_7b", 16, 9.9),
        ("qwen2_5_math_7b", 64, 10.2),
    ],
)
def test_steps_on_an_h100_are_told_within_a_third_of_what_was_measured(
    name: str, rows: int, milliseconds: float
) -> None:
    config = component(composed(f"model={name}").model, "model")
    found = decoding_time(shape(config.parameters, config.dimensions, 2), CARDS["H100"], rows, 0, 1000)
    assert found == pytest.approx(milliseconds, rel=1 / 3)


def test_every_batch_of_an_evaluation_is_paid_for_the_last_incomplete_one_too() -> None:
    machine = Machine(CPU, 1e12, 1e10, 0)
    answers = answers_of(evaluation("paper"), 150, 0)  # 64, 64 and 22 rows
    expected = [decoding_time(MODEL, machine, rows, 0, 3072) for rows in (64, 64, 22)]
    assert seconds(NOTHING, answers, (MODEL, MODEL), machine).evaluation == pytest.approx(sum(expected))


def test_gradients_of_weights_cost_half_as_much_again_and_the_hosts_memory() -> None:
    options, machine = recipe("paper"), Machine(CPU, 1e12, 1e10, 0)
    ttsv, em, lora = (method(name).work(options, 30, 100) for name in ("ttsv", "em", "em_lora"))
    assert ttsv.updates == em.updates == lora.updates
    assert ttsv.loss_tokens - em.loss_tokens == ttsv.updates * ttsv.rows * options.length
    times = [seconds(replace(w, host_bytes=0), None, (MODEL, MODEL), machine).loss for w in (lora, em)]
    assert times[1] == pytest.approx(1.5 * times[0])
    assert (em.host_bytes, em.device_copies, lora.host_bytes, lora.device_copies) == (24, 3, 0, 1)
    assert memory(em, None, (MODEL, MODEL), machine) - memory(lora, None, (MODEL, MODEL), machine) == pytest.approx(
        2 * 1e9 * 2
    )
    assert seconds(em, None, (MODEL, MODEL), machine).loss > times[1]


def test_a_vector_for_each_problem_is_updated_for_each_group_of_problems() -> None:
    work = replace(method("ttsv_sample"), updates=5, side_by_side=8).work(recipe("paper"), 30, 100)  # type: ignore[call-arg]
    assert work.updates == 5 * 4
    assert work.rows == 8


def test_slot_draws_no_rollouts_and_runs_the_layers_once() -> None:
    work, machine = method("slot").work(recipe("paper"), 30, 100), Machine(CPU, 1e12, 1e10, 0)
    found = seconds(work, None, (MODEL, MODEL), machine)
    assert found.rollout == work.rollout_tokens == 0
    layers, head = 2 * 9e8 * 30 * 100, 5 * 2 * 2 * 1e8 * 30 * 100
    assert found.loss == pytest.approx((layers + head) / 1e12 / LOSS_SHARE)


@pytest.mark.parametrize("name", ["none", "untrained_prefix", "random_prefix", "released_vector", "text_prefix"])
def test_methods_that_optimise_nothing_cost_nothing(name: str) -> None:
    assert method(name).work(recipe("paper"), 30, 100) == NOTHING


def test_memory_holds_the_weights_and_the_larger_of_cache_and_loss() -> None:
    sizes, machine = dimensions_of(tiny_model().config), Machine(CPU, 1e12, 1e10, 0)
    tiny = shape(1e6, sizes, 4)
    answers = answers_of(evaluation("paper"), 64, MEAN_PROMPT_TOKENS)
    without = memory(NOTHING, answers, (tiny, tiny), machine)
    assert without == 1e6 * 4 + 64 * (MEAN_PROMPT_TOKENS + 3072) * 2 * 2 * 2 * 8 * 4
    long = replace(work_of(recipe("paper"), 64, MEAN_PROMPT_TOKENS, 3), micro_rows=8)
    assert memory(long, answers, (tiny, tiny), machine) >= without
    # A micro-batch is cut by tokens, so more rows than fit it need no more.
    kept = [memory(replace(long, micro_rows=rows), None, (MODEL, MODEL), machine) for rows in (64, 640)]
    assert kept[0] == kept[1] > MODEL.parameters * MODEL.element


@pytest.mark.parametrize("name", ["qwen2_5_math_1_5b", "qwen2_5_math_7b", "qwen3_4b", "llama_3_1_8b_instruct"])
def test_the_sizes_that_a_models_config_states_make_its_parameters(name: str) -> None:
    config: ModelConfig = component(composed(f"model={name}").model, "model")
    sizes = config.dimensions
    assert sizes is not None
    assert config.parameters is not None
    heads = {"qwen2_5_math_1_5b": 12, "qwen2_5_math_7b": 28, "qwen3_4b": 32, "llama_3_1_8b_instruct": 32}[name]
    attention = 2 * sizes.hidden_size * sizes.head_dim * (heads + sizes.num_key_value_heads)
    layers = sizes.num_hidden_layers * (attention + 3 * sizes.hidden_size * sizes.intermediate_size)
    table = sizes.vocab_size * sizes.hidden_size
    assert layers + table * (1 if sizes.tied else 2) == pytest.approx(config.parameters, rel=0.005)
    assert shape(config.parameters, sizes, 2).layers == pytest.approx(layers, rel=0.01)


def test_measured_factors_scale_each_kind_of_work_by_itself() -> None:
    machine, work = Machine(CPU, 1e12, 1e10, 0), work_of(recipe("paper"), 30, 100, 3)
    answers = answers_of(evaluation("paper"), 30, 100)
    plain, scaled = (seconds(work, answers, (MODEL, MODEL), machine, f) for f in (AS_STATED, Seconds(2.0, 3.0, 0.5)))
    assert scaled == Seconds(2 * plain.rollout, 3 * plain.loss, pytest.approx(0.5 * plain.evaluation))  # type: ignore[arg-type]
