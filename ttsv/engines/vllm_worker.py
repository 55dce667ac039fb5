"""The process that holds vLLM: ``python -m ttsv.engines.vllm_worker DESCRIPTOR``, the other end of :mod:`ttsv.engines.vllm_process`.

It may run in another environment than the rest, with vLLM's own torch and transformers. What it is sent:

1. once, the arguments of ``vllm.EngineArgs`` that the caller decides, as JSON; it answers with the versions of its packages and the
   device, when the weights are loaded;
2. any number of jobs, as JSON: ``sampling`` (fields of ``Sampling``), ``end_ids``, ``rows`` ([prompt, stream] each) and ``prompts``, the
   number of prompts that follow, each as one safetensors file with ``embeddings`` (T, d). It answers with lists of finished rows,
   [index, token ids, mean entropy in nats] each, until it has told of all.

It has no message for errors: it dies, and its log says why.
"""

import json
import sys
from multiprocessing.connection import Connection
from typing import Any

import torch
import vllm
from safetensors.torch import load
from torch import Tensor
from vllm import EngineArgs, LLMEngine, SamplingParams
from vllm.inputs import embeds_input
from vllm.outputs import RequestOutput
from vllm.platforms import current_platform


def start(arguments: dict[str, Any]) -> LLMEngine:
    """Load the model; the rest of the arguments is the same for every use."""
    return LLMEngine.from_engine_args(
        EngineArgs(
            **arguments,
            enable_prompt_embeds=True,
            skip_tokenizer_init=True,
            generation_config="vllm",
            load_format="safetensors",
            logits_processors=["ttsv.engines.vllm_sampling:DrawnTokens"],
            logprobs_mode="processed_logits",
            # What a row is must not depend on what was computed before it.
            enable_prefix_caching=False,
            # A row's next random number is found by how much it has written, which must therefore be known.
            async_scheduling=False,
            disable_log_stats=True,
        )
    )


def submit(engine: LLMEngine, job: dict[str, Any], prompts: list[Tensor]) -> None:
    """Give vLLM every row of a job."""
    for index, (prompt, stream) in enumerate(job["rows"]):
        params = SamplingParams(
            temperature=0,
            max_tokens=job["sampling"]["max_new_tokens"],
            stop_token_ids=job["end_ids"],
            ignore_eos=True,
            detokenize=False,
            logprobs=0,
            extra_args={"sampling": job["sampling"], "stream": stream},
        )
        engine.add_request(str(index), embeds_input(prompts[prompt]), params)


def told(output: RequestOutput) -> tuple[int, list[int], float]:
    """Return index, token ids and mean entropy of a finished row; DrawnTokens puts a token's entropy where vLLM adds up logits."""
    written = output.outputs[0]
    return int(output.request_id), list(written.token_ids), written.cumulative_logprob / len(written.token_ids)


def serve(connection: Connection) -> None:
    """Do jobs until the other end is closed."""
    engine = start(json.loads(connection.recv_bytes()))
    facts = {"vllm": vllm.__version__, "torch": torch.__version__, "device": current_platform.device_type}
    connection.send_bytes(json.dumps(facts).encode())
    while True:
        job = json.loads(connection.recv_bytes())
        submit(engine, job, [load(connection.recv_bytes())["embeddings"] for _ in range(job["prompts"])])
        while engine.has_unfinished_requests():
            finished = [told(output) for output in engine.step() if output.finished]
            if finished:
                connection.send_bytes(json.dumps(finished).encode())


if __name__ == "__main__":
    try:
        serve(Connection(int(sys.argv[1])))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        sys.exit()
