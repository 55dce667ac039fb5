"""lm-eval's own command line, knowing our model type and our tasks: ``python -m ttsv.lm_eval --model ttsv ...``.

lm-eval looks models up in a registry that other packages can add to, but it looks for no such packages by itself: its entry points are the
commands alone (0.4.13). So this command registers our model type and then goes on as ``lm_eval`` does.

    python -m ttsv.lm_eval --model ttsv --model_args pretrained=MODEL,soft_prompt=FILE --tasks hellaswag,ttsv_one_digit_sums
"""

import argparse
import sys

from lm_eval._cli import HarnessCLI
from lm_eval.utils import setup_logging

import ttsv.lm_eval.model  # noqa: F401  # registers the model type
from ttsv.lm_eval.loading import TASK_CONFIGS, downloaded_code_refused
from ttsv.records import UserError


def main() -> int:
    """Run lm-eval's command line; returns the exit status."""
    setup_logging()
    cli = HarnessCLI()
    arguments = cli.parse_args()
    try:
        _refuse_code(arguments)
        if hasattr(arguments, "include_path"):
            arguments.include_path = [str(TASK_CONFIGS), *([arguments.include_path] if arguments.include_path else [])]
        with downloaded_code_refused():
            cli.execute(arguments)
    except (
        UserError,
        ValueError,
    ) as error:  # lm-eval's own refusals (an unknown task, a missing argument) are ValueErrors
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _refuse_code(arguments: argparse.Namespace) -> None:
    for option in ("trust_remote_code", "confirm_run_unsafe_code"):
        if getattr(arguments, option, False):
            raise UserError(
                f"--{option} is not taken: no code that a model wrote or that was downloaded is ever executed here"
            )


if __name__ == "__main__":
    sys.exit(main())
