"""From a composed Hydra config to typed components, built once. Only entry points import this."""

from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeVar

import hydra.utils
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field, TypeAdapter, ValidationError

from ttsv.cell import Cell
from ttsv.lm_eval import config_source
from ttsv.optimization import Seeds
from ttsv.records import UserError

T = TypeVar("T")

config_source.register()


@dataclass(frozen=True)
class _Root:
    """The plain values at the root of a config, whose types :func:`build` checks."""

    study: str
    seed: int
    limit: int | None
    limit_seed: int
    split_seed: int
    data_dir: str | None
    vector: str | None
    results_dir: str
    device: str
    checkpoint_every: Annotated[int, Field(ge=1)]
    adapt_on: Literal["all", "first_half", "second_half"]
    at_update: Annotated[int, Field(ge=0)] | None
    keep_weights: bool
    aggregate: Literal["mean", "majority"]
    measure: Literal["activations"] | None
    reread: bool
    stop_after: Literal["adapt", "generate"] | None


@dataclass(frozen=True)
class _AllSeeds(Seeds):
    evaluation: int


_NODES = (
    "model",
    "task",
    "adapt_task",
    "prompt",
    "method",
    "recipe",
    "scale",
    "engine",
    "grader",
    "second_grader",
    "tracking",
    "seeds",
    "grid",
)
"""The nodes at the root of a config, beside the plain values of :class:`_Root`."""


def build(config: DictConfig) -> Cell:
    """Build and check every component of a composed config.

    Raises:
        UserError: naming the key, what was got and what was expected.
    """
    try:
        plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise UserError(f"the config is not complete: {error}") from error
    unknown = sorted(set(plain) - {field.name for field in fields(_Root)} - set(_NODES))
    if unknown:
        raise UserError(
            f"unknown keys at the root: {', '.join(unknown)}; a + in front only adds keys that nothing reads. See --help"
        )
    _validated(_Root, {field.name: plain[field.name] for field in fields(_Root)}, "")
    seeds = _validated(_AllSeeds, plain["seeds"], "seeds")
    choices = HydraConfig.get().runtime.choices
    names = {
        group: str(choices[group]) for group in ("task", "prompt", "recipe", "scale", "method", "engine", "grader")
    }
    elsewhere = config.get("adapt_task")
    names["adapt_task"] = str(choices["task@adapt_task"]) if elsewhere else names["task"]
    return Cell(
        study=str(config.study),
        model=component(config.model, "model"),
        task=component(config.task, "task"),
        adapt_task=component(elsewhere, "adapt_task") if names["adapt_task"] != names["task"] else None,
        prompt=component(config.prompt, "prompt"),
        method=component(config.method, "method"),
        optimization=component(config.recipe.optimization, "recipe.optimization"),
        evaluation=component(config.recipe.evaluation, "recipe.evaluation"),
        engine=component(config.engine, "engine"),
        grader=component(config.grader, "grader"),
        second_grader=component(config.second_grader, "second_grader"),
        seeds=Seeds(seeds.initialization, seeds.order, seeds.rollout),
        names=names,
        overrides=tuple(HydraConfig.get().overrides.task),
        plain=plain,
    )


def component(node: DictConfig, key: str) -> Any:
    """Instantiate one node and check the types of its fields against its dataclass.

    Raises:
        UserError: naming the key whose value does not fit.
    """
    try:
        built = hydra.utils.instantiate(node, _convert_="all")
    except (InstantiationException, OmegaConfBaseException) as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from error
        _check_types(node, key)
        raise UserError(f"{key} cannot be built: {error}") from error
    return checked(built, key)


def _check_types(node: DictConfig, key: str) -> None:
    """Name the fields of a node that have the wrong type, where its dataclass could not even be built with them."""
    target = hydra.utils.get_object(str(node["_target_"]))
    if isinstance(target, type) and is_dataclass(target):
        _validated(target, _without_targets(OmegaConf.to_container(node, resolve=True)), key)


def _without_targets(plain: Any) -> Any:
    if isinstance(plain, dict):
        return {name: _without_targets(value) for name, value in plain.items() if name != "_target_"}
    return [_without_targets(value) for value in plain] if isinstance(plain, list) else plain


def checked(built: T, key: str) -> T:
    """Return a dataclass instance with every field converted to its declared type (lists to tuples, whole numbers to floats).

    Raises:
        UserError: naming the key, the value and the type expected.
    """
    if not is_dataclass(built) or isinstance(built, type):
        return built
    return _validated(type(built), asdict(built), key)


def _validated(kind: type[T], plain: Any, key: str) -> T:
    try:
        return TypeAdapter(kind).validate_python(plain)
    except ValidationError as error:
        lines = [
            f"{'.'.join(filter(None, [key, *map(str, e['loc'])]))}={e['input']!r}: {e['msg']}" for e in error.errors()
        ]
        raise UserError("\n".join(lines)) from error
