"""The one loader: presets (YAML), command-line flags and `--set key=value` -> typed, frozen settings.

Later beats earlier: defaults, preset, flags, `--set`. All errors are reported at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, create_model, model_serializer

from configs.errors import UserError, did_you_mean

PRESETS = Path(__file__).parent


class Settings(BaseModel):
    """Base of every settings schema: unknown names are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Chosen(Settings):
    """One function of a dict, by name, with values for its keyword-only parameters."""

    name: str
    settings: dict[str, Any] = {}

    @model_serializer
    def _as_in_yaml(self) -> dict[str, Any]:
        return {"name": self.name, **self.settings}


S = TypeVar("S", bound=Settings)


@cache
def schema_of(function: Callable[..., Any]) -> type[BaseModel]:
    """The settings schema of a function: its keyword-only parameters with their types and defaults."""
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    fields: dict[str, Any] = {
        p.name: (p.annotation, ... if p.default is p.empty else p.default)
        for p in parameters
        if p.kind is p.KEYWORD_ONLY
    }
    return create_model(
        function.__name__, __config__=ConfigDict(extra="forbid", protected_namespaces=()), **fields
    )


def choice(functions: Mapping[str, Callable[..., Any]], default: str | None = None) -> Any:
    """The type of a setting that picks one function of a dict, and sets its keyword-only parameters.

    In YAML either the bare name (`loss: focal`) or a mapping with the name and the
    function's own settings (`loss: {name: focal, gamma: 3}`). `default` is the name
    that a mapping without one means (`--set loss.smoothing=0.1`).
    """

    def parse(value: object) -> object:
        if isinstance(value, Chosen):
            return value
        given = {"name": value} if isinstance(value, str) else value
        if not isinstance(given, dict):
            raise ValueError(f"a name or a mapping with a name is needed, not {value!r}")
        given = {"name": default, **given} if default else given
        name = str(given.get("name"))
        if name not in functions:
            raise ValueError(f"{name!r} is not known{did_you_mean(name, functions)}")
        own = {k: v for k, v in given.items() if k != "name"}
        filled = schema_of(functions[name]).model_validate(own)
        return Chosen(name=name, settings=filled.model_dump())

    return Annotated[Chosen, BeforeValidator(parse)]


def load(
    schema: type[S],
    *,
    command: str,
    config: str | None = None,
    flags: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
) -> S:
    """Settings from all their sources.

    Args:
        schema: the settings to fill.
        command: the command that asks, as in a preset's `command:` key ("classify train").
        config: a preset's name, or the path of a YAML file.
        flags: dotted keys with the values of command-line flags; None means "not given".
        overrides: `key=value` texts, dotted keys, values in YAML.

    Raises:
        UserError: with everything that is wrong, each with the near name where there is one.
    """
    values = read_preset(config, command) if config else {}
    for key, value in (flags or {}).items():
        if value is not None:
            _put(values, key, value)
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set {text}: write it as key=value")
        _put(values, key.strip(), _parse_yaml(value, f"--set {text}"))
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise UserError(f"settings: {explain(error, schema)}") from None


def preset_names(command: str | None = None) -> list[str]:
    """Names of the presets that come with the package, of one command or of all."""
    return sorted(
        path.stem
        for path in PRESETS.glob("*.yaml")
        if command is None or _parse_yaml(path.read_text("utf-8"), path.name).get("command") == command
    )


def read_preset(config: str, command: str) -> dict[str, Any]:
    """The values of a preset, by name or by path; UserError where it is absent or for another command."""
    path = Path(config)
    if path.suffix not in (".yaml", ".yml"):
        path = PRESETS / f"{config}.yaml"
        if not path.is_file():
            raise UserError(
                f"--config {config}: no preset of that name{did_you_mean(config, preset_names(command))} "
                "(a file of your own is given with its .yaml ending)"
            )
    if not path.is_file():
        raise UserError(f"--config {config}: no such file")
    values = _parse_yaml(path.read_text("utf-8"), f"--config {config}")
    if not isinstance(values, dict):
        raise UserError(f"--config {config}: a mapping of settings is needed")
    meant_for = values.pop("command", command)
    if meant_for != command:
        raise UserError(f"--config {config}: this preset is for `{meant_for}`, not for `{command}`")
    return values


def explain(error: ValidationError, schema: type[BaseModel]) -> str:
    """Every error of a validation in one line, unknown names with the near known one."""
    known = _dotted_names(schema)
    parts = []
    for item in error.errors():
        key = ".".join(str(step) for step in item["loc"])
        if item["type"] == "extra_forbidden":
            parts.append(f'"{key}" is not a setting{did_you_mean(key, known or [key])}')
        else:
            parts.append(f"{key}: {item['msg'].removeprefix('Value error, ')} (given: {item['input']!r})")
    return "; ".join(parts)


def _dotted_names(schema: type[BaseModel], prefix: str = "") -> list[str]:
    names = []
    for name, field in schema.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel) and inner is not Chosen:
            names += _dotted_names(inner, f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names


def _put(values: dict[str, Any], dotted: str, value: object) -> None:
    """Set a dotted key; a bare name on the way (`loss: focal`) becomes the mapping that it is short for."""
    *way, last = dotted.split(".")
    for step in way:
        inner = values.get(step)
        if not isinstance(inner, dict):
            inner = {"name": inner} if isinstance(inner, str) else {}
            values[step] = inner
        values = inner
    values[last] = value


def _parse_yaml(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None
