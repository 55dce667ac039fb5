"""``task=lm_eval/NAME`` for any name: a source of Hydra configs that writes the config instead of finding it in a file.

There are more than ten thousand tasks, and more with every release, so none of them gets a file; see Hydra's "ConfigSource plugin".
"""

from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf

GROUP = "task/lm_eval"


class LMEvalConfigSource(ConfigSource):
    """The configs ``task/lm_eval/NAME``. Whether lm-eval knows the name is found out when the task is read."""

    @staticmethod
    def scheme() -> str:
        """Return the name that ``hydra.searchpath`` calls this source by."""
        return "lm-eval"

    def load_config(self, config_path: str) -> ConfigResult:
        """Return the config of :class:`ttsv.lm_eval.task.LMEvalTask` for a name."""
        content = {
            "_target_": "ttsv.lm_eval.task.LMEvalTask",
            "task": config_path.removeprefix(f"{GROUP}/").removesuffix(".yaml"),
            "num_fewshot": None,
            "chat_template": False,
            "metric": None,
            "filter": None,
            "include_path": None,
        }
        return ConfigResult(self.provider, f"{self.scheme()}://", OmegaConf.create(content), {"package": None})

    def is_group(self, config_path: str) -> bool:
        """Tell whether a path is the group."""
        return config_path.strip("/") == GROUP

    def is_config(self, config_path: str) -> bool:
        """Tell whether a path is a name in the group."""
        return config_path.startswith(f"{GROUP}/")

    def available(self) -> bool:
        """Return True: nothing has to be there."""
        return True

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return no names; ``python -m ttsv.lm_eval ls tasks`` lists them."""
        return []


def register() -> None:
    """Make the source known to Hydra, as often as one likes."""
    Plugins.instance().register(LMEvalConfigSource)
