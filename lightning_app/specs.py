"""A sweep file and the cells it stands for.

A sweep is models x folds x seeds with everything that a trained and tested network depends on. Each
combination is a cell; its key is the hash of its specification, in which a cohort is named by its
content and never by its path. So a key changes when, and only when, the result may.

Nothing here imports torch: `plan` answers at once. Problems of a file are collected and reported together.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from datamodules.errors import ConfigError, DataError, Problem
from datamodules.rendering.difficulty import DIFFICULTIES, NOMINAL
from datamodules.wording import number_of
from datamodules.yaml_text import YamlTextError, parse_yaml, read_yaml_mapping
from lightning_app.class_paths import Argument, Signature, UnknownClassError, near_matches, signature
from lightning_app.hardware import computes_bf16

SCHEMA_VERSION = 1
KEY_HEX_DIGITS = 16
PATCH_PX = 128
HELD_OUT = "cv"  # name of the test set that is the held-out fold

# Arguments that the cell itself sets on a datamodule; a sweep file names them elsewhere.
GIVEN_BY_CELL = {
    "folds": "folds.count",
    "fold": "folds.run",
    "fold_seed": "folds.seed",
    "patch_seed": "seeds",
}
# Trainer arguments that a cell owns, because resume, logs and weights hang on them.
OWNED_BY_CELL = {
    *("logger", "callbacks", "max_epochs", "min_epochs", "max_steps", "min_steps", "max_time", "precision"),
    *("enable_checkpointing", "enable_progress_bar", "enable_model_summary", "default_root_dir", "profiler"),
    *("num_sanity_val_steps", "reload_dataloaders_every_n_epochs", "barebones", "fast_dev_run", "plugins"),
    *("overfit_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches"),
    *("check_val_every_n_epoch", "val_check_interval", "log_every_n_steps"),
}
# Ranges of arguments whose name tells their meaning wherever they occur: (low, high, low is allowed).
RANGES: dict[str, tuple[float, float, bool]] = {
    "lr": (0, math.inf, False),
    "threshold": (0, 1, True),
    "amount": (0, 1, True),
    "batch_size": (1, math.inf, True),
    "patches_per_scan": (1, math.inf, True),
    "width": (1, math.inf, True),
}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Component(_Frozen):
    """A class and the arguments it is built with."""

    class_path: str
    init_args: dict[str, JsonValue] = {}


C = TypeVar("C", bound=Component)


class ModelEntry(Component):
    """A model of the sweep; `name` is how the report calls it."""

    name: str | None = Field(default=None, pattern=r"^[\w.+ -]{1,60}$")


class TestSet(Component):
    """A set of scans every trained model is tested on, besides its held-out fold."""

    __test__: ClassVar[bool] = False  # the name looks like a test class to pytest

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]{0,40}$")


class CohortRecipe(_Frozen):
    """A cohort made on the spot."""

    kind: Literal["binary", "pseudo", "colour", "varied", "plotted", "faxed"]
    scans: int = Field(ge=1, le=1_000_000)
    seed: int = Field(default=0, ge=0)
    difficulty: str = NOMINAL.name  # how noisy and at which scale binary pages are drawn

    @field_validator("difficulty")
    @classmethod
    def _is_known(cls, name: str, info: ValidationInfo) -> str:
        if name not in DIFFICULTIES:
            raise ValueError(f"one of {', '.join(DIFFICULTIES)}")
        if name != NOMINAL.name and info.data.get("kind") != "binary":
            raise ValueError(f"{NOMINAL.name}, since only binary pages have another difficulty")
        return name


class CohortFolder(_Frozen):
    """A cohort that exists already; a relative path starts at the working directory."""

    path: str = Field(min_length=1)


def _cohort_tag(value: Any) -> str:
    given = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    return "path" if "path" in given else "recipe"


Cohort = Annotated[
    Annotated[CohortRecipe, Tag("recipe")] | Annotated[CohortFolder, Tag("path")], Discriminator(_cohort_tag)
]


class Folds(_Frozen):
    """Cross-validation: how many folds, which of them run, and the seed that draws them."""

    count: int = Field(default=5, ge=2, le=1000)
    run: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    seed: int = Field(default=0, ge=0)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The folds that run; all of them by default."""
        return tuple(range(self.count)) if self.run is None else self.run


class Training(_Frozen):
    """Length and number format of the training."""

    pretrain_epochs: int = Field(default=1, ge=0)  # Li et al. 2020: one epoch on the pseudo scans
    epochs: int = Field(default=100, ge=1)
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true", "auto"] = "32-true"

    def resolved(self) -> Training:
        """The same with `auto` decided: a cell's result depends on the format, so its spec names it."""
        if self.precision != "auto":
            return self
        return self.model_copy(update={"precision": "bf16-mixed" if computes_bf16() else "32-true"})


class Evaluation(_Frozen):
    """How a page is put together from windows and where a pixel counts as waveform."""

    threshold: float = Field(default=0.15, ge=0, le=1)  # Li et al. 2020, section 2.3
    overlap_px: int = Field(default=64, ge=0, lt=PATCH_PX)


class Sweep(_Frozen):
    """A sweep file, checked."""

    schema_version: int = Field(default=SCHEMA_VERSION, ge=1)
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,60}$")
    signals: str = "simulated"
    # Weights that all models start from: a finished cell's folder, its weights, or a packed reader.
    start_from: str | None = Field(default=None, min_length=1)
    cohorts: dict[str, Cohort] = {}  # a datamodule of one's own may have other data
    models: tuple[ModelEntry, ...] = Field(min_length=1)
    folds: Folds = Folds()
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = Field(default=(0,), min_length=1)
    fit_on: Component
    pretrain_on: Component | None = None
    test_on: tuple[TestSet, ...] = ()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    trainer: dict[str, JsonValue] = {}

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """What each model is called: its name, else class and the arguments that tell it from the others."""
        return _labels(self.models)


class FoldOf(_Frozen):
    """One fold of a cross-validation."""

    count: int
    fold: int
    seed: int


class Seeds(_Frozen):
    """The weight seed and the patch seed, two streams that a sweep file gives one number for."""

    weights: int
    patches: int


class CellSpec(_Frozen):
    """Everything one trained and tested model depends on, and nothing else.

    Cohorts appear by content id (`init_args.cohort`), so paths, labels, worker counts and report settings are
    not part of it.
    """

    schema_version: int
    model: Component
    fit_on: Component
    pretrain_on: Component | None
    folds: FoldOf
    seeds: Seeds
    training: Training
    trainer: dict[str, JsonValue]
    evaluation: Evaluation
    test_on: tuple[TestSet, ...]
    start_from: str | None = None  # SHA-256 of the weights it starts from

    @model_serializer(mode="wrap")
    def _without_an_absent_start(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `start_from` out where there is none: such cells had their keys before it existed."""
        plain: dict[str, Any] = handler(self)
        if plain.get("start_from") is None:
            plain.pop("start_from", None)
        return plain

    @cached_property
    def key(self) -> str:
        """Name of the cell's folder: the first 16 hex digits of the hash of its specification."""
        return _key(self.model_dump(mode="json"))

    @cached_property
    def fit_key(self) -> str:
        """The same over what the weights depend on: cells that differ in tests only share it."""
        return _key(self.model_dump(mode="json", exclude={"evaluation", "test_on"}))

    def canonical(self) -> str:
        """The specification as canonical JSON, the text that is hashed."""
        return canonical_json(self.model_dump(mode="json"))


class PlannedCell(_Frozen):
    """A cell with the names under which the sweep shows it."""

    label: str
    spec: CellSpec

    @property
    def key(self) -> str:
        """Key of the cell."""
        return self.spec.key


def canonical_json(value: Any) -> str:
    """Write plain values as JSON that is the same text for the same content.

    Raises:
        ValueError: If a number is NaN or infinite.

    Example:
        >>> canonical_json({"b": 1, "a": [True, None]})
        '{"a":[true,null],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _key(payload: Any) -> str:
    return hashlib.sha256(canonical_json(payload).encode()).hexdigest()[:KEY_HEX_DIGITS]


def cells(
    sweep: Sweep, cohort_ids: Mapping[str, str], start_sha256: str | None = None
) -> tuple[PlannedCell, ...]:
    """Expand a sweep to its cells, models outermost, then folds, then seeds.

    Args:
        sweep: The checked sweep.
        cohort_ids: Content id of every cohort of the sweep, by its name there.
        start_sha256: Hash of the weights that `sweep.start_from` names.
    """
    fit_on = _by_content(sweep.fit_on, cohort_ids)
    pretrain_on = None
    if sweep.pretrain_on is not None and sweep.training.pretrain_epochs:
        pretrain_on = _by_content(sweep.pretrain_on, cohort_ids)
    test_on = tuple(
        sorted((_by_content(test, cohort_ids) for test in sweep.test_on), key=lambda test: test.name)
    )
    planned = []
    for entry, label in zip(sweep.models, sweep.labels, strict=True):
        model = Component(class_path=entry.class_path, init_args=entry.init_args)
        for fold in sweep.folds.numbers:
            for seed in sweep.seeds:
                spec = CellSpec(
                    schema_version=SCHEMA_VERSION,
                    model=model,
                    fit_on=fit_on,
                    pretrain_on=pretrain_on,
                    folds=FoldOf(count=sweep.folds.count, fold=fold, seed=sweep.folds.seed),
                    seeds=Seeds(weights=seed, patches=seed),
                    training=sweep.training.resolved(),
                    trainer=sweep.trainer,
                    evaluation=sweep.evaluation,
                    test_on=test_on,
                    start_from=start_sha256,
                )
                planned.append(PlannedCell(label=label, spec=spec))
    return tuple(planned)


def _by_content(component: C, cohort_ids: Mapping[str, str]) -> C:
    name = component.init_args.get("cohort")
    if not isinstance(name, str):
        return component
    return component.model_copy(update={"init_args": {**component.init_args, "cohort": cohort_ids[name]}})


def _labels(models: tuple[ModelEntry, ...]) -> tuple[str, ...]:
    plain = [entry.name or entry.class_path.rpartition(".")[2] for entry in models]
    labels = []
    for entry, label in zip(models, plain, strict=True):
        if entry.name is None and plain.count(label) > 1:
            details = [
                _detail(name, value)
                for name, value in entry.init_args.items()
                if _differs(models, name, value)
            ]
            label = "-".join([label, *details])
        labels.append(label)
    return tuple(labels)


def _detail(name: str, value: JsonValue) -> str:
    return value if isinstance(value, str) else f"{name}{canonical_json(value)}"


def _differs(models: tuple[ModelEntry, ...], name: str, value: JsonValue) -> bool:
    return any(entry.init_args.get(name) != value for entry in models)


# Reading and checking a sweep file


def load_sweep(path: Path, overrides: tuple[str, ...] = ()) -> Sweep:
    """Read a sweep file and check everything that can be checked before any work.

    Args:
        path: YAML file.
        overrides: `a.b=c` settings; list items are named by number, values are read as YAML.

    Raises:
        ConfigError: With every problem of the file and of the overrides.
    """
    try:
        content = read_yaml_mapping(path)
    except DataError as error:
        raise ConfigError(error.problems) from None
    for override in overrides:
        _override(content, override)
    return check_sweep(content, path.name)


def check_sweep(content: Mapping[str, Any], where: str = "sweep") -> Sweep:
    """Check plain values as a sweep.

    Args:
        content: What the YAML file holds.
        where: Name of the file in messages.

    Raises:
        ConfigError: With every problem found.
    """
    version = content.get("schema_version", SCHEMA_VERSION)
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise ConfigError(newer_schema(where, version))
    try:
        sweep = Sweep.model_validate(dict(content))
    except ValidationError as error:
        # The rest is still checked as far as it is well formed, so that one run tells everything.
        problems = [_problem(where, item, content) for item in error.errors(include_url=False)]
        raise ConfigError([*problems, *_class_problems_of_raw(content, where)]) from None
    problems = [*_semantic_problems(sweep, where)]
    if problems:
        raise ConfigError(problems)
    return sweep


def newer_schema(where: str, version: int) -> Problem:
    """Tell that a file was written by a later release."""
    return Problem(
        "SCHEMA_NEWER",
        where,
        f"schema version {version}",
        f"at most {SCHEMA_VERSION}",
        "update Inkbeat to the release that wrote it",
    )


def _override(content: dict[str, Any], text: str) -> None:
    path, separator, value_text = text.partition("=")
    if not separator or not path:
        raise ConfigError(Problem("SET_INVALID", f"--set {text}", repr(text), "a.b=value"))
    try:
        value = parse_yaml(value_text)
    except YamlTextError as error:
        raise ConfigError(Problem("SET_INVALID", f"--set {path}", str(error), "a YAML value")) from None
    *parents, last = path.split(".")
    place: Any = content
    for part in parents:
        place = _step_into(place, part, path)
    if isinstance(place, list):
        place[_index(place, last, path)] = value
    else:
        place[last] = value


def _step_into(place: Any, part: str, path: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, part, path)]
    child = place.setdefault(part, {})
    if child is None:
        child = place[part] = {}
    if not isinstance(child, dict | list):
        raise ConfigError(
            Problem("SET_INVALID", f"--set {path}", f"{part} is {child!r}", "a key that holds others")
        )
    return child


def _index(place: list[Any], part: str, path: str) -> int:
    if part.isdigit() and int(part) < len(place):
        return int(part)
    raise ConfigError(Problem("SET_INVALID", f"--set {path}", f"item {part}", f"0 to {len(place) - 1}"))


def _problem(where: str, item: Any, content: Mapping[str, Any]) -> Problem:
    """Turn one of pydantic's errors into ours."""
    path = [part for part in item["loc"] if part not in ("recipe", "path") or part == item["loc"][-1]]
    if item["loc"] and item["loc"][-1] in ("recipe",):
        path = path[:-1]
    place = f"{where}: {'.'.join(map(str, path))}"
    if item["type"] == "extra_forbidden":
        known = _known_keys(path[:-1], content)
        near = near_matches(str(path[-1]), known)
        remedy = f"did you mean {' or '.join(near)}?" if near else "remove it"
        return Problem("UNKNOWN_KEY", place, f"key {path[-1]!r}", f"one of {', '.join(known)}", remedy)
    if item["type"] == "missing":
        return Problem("MISSING_KEY", place, "nothing", "a value", f"add {path[-1]}")
    message = item["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return Problem("BAD_VALUE", place, repr(item["input"])[:80], message)


_KEYS: dict[str, type[BaseModel]] = {
    "models": ModelEntry, "test_on": TestSet, "fit_on": Component, "pretrain_on": Component, "folds": Folds,
    "training": Training, "evaluation": Evaluation,
}  # fmt: skip


def _known_keys(path: list[Any], content: Mapping[str, Any]) -> list[str]:
    if not path:
        return list(Sweep.model_fields)
    if path[0] == "cohorts":
        entry = content["cohorts"].get(path[1], {})
        return list((CohortFolder if "path" in entry else CohortRecipe).model_fields)
    return list(_KEYS[path[0]].model_fields)


def _semantic_problems(sweep: Sweep, where: str) -> Iterator[Problem]:
    yield from _name_problems(sweep, where)
    yield from _start_problems(sweep, where)
    yield from _fold_problems(sweep, where)
    yield from _cohort_problems(sweep, where)
    yield from _trainer_problems(sweep.trainer, where)
    if sweep.pretrain_on is not None and sweep.training.pretrain_epochs == 0:
        yield Problem(
            "BAD_VALUE", f"{where}: training.pretrain_epochs", "0 together with pretrain_on", "1 or more",
            "remove pretrain_on or raise pretrain_epochs",
        )  # fmt: skip
    for place, component in _components(sweep):
        yield from _class_problems(component.class_path, component.init_args, f"{where}: {place}")


def _name_problems(sweep: Sweep, where: str) -> Iterator[Problem]:
    for what, names in {
        "models": sweep.labels,
        "test_on": [test.name for test in sweep.test_on],
        "seeds": sweep.seeds,
        "folds.run": sweep.folds.numbers,
    }.items():
        repeated = sorted({str(name) for name in names if list(names).count(name) > 1})
        if repeated:
            remedy = "give each a `name`" if what == "models" else "remove the repetition"
            yield Problem(
                "REPEATED", f"{where}: {what}", f"{', '.join(repeated)} more than once", "each once", remedy
            )
    if any(test.name == HELD_OUT for test in sweep.test_on):
        wanted = "another name; the held-out fold is called that"
        yield Problem("REPEATED", f"{where}: test_on", f"name {HELD_OUT}", wanted)


def _start_problems(sweep: Sweep, where: str) -> Iterator[Problem]:
    """Refuse a comparison in which a model starts from other weights and its name does not say so (E10)."""
    starts = [entry.init_args.get("encoder_weights") for entry in sweep.models]
    if len({canonical_json(start) for start in starts}) == 1:
        return
    for index, (start, label) in enumerate(zip(starts, sweep.labels, strict=True)):
        if start is not None and str(start).lower() not in label.lower():
            got = f"{label!r}, which starts from {start} weights"
            wanted = f"a name with {start!r} in it, since other models start at random"
            place = f"{where}: models.{index}.name"
            yield Problem("UNEQUAL_START", place, got, wanted, f"name: {label} {start}")


def _fold_problems(sweep: Sweep, where: str) -> Iterator[Problem]:
    beyond = [fold for fold in sweep.folds.numbers if fold >= sweep.folds.count]
    if beyond:
        yield Problem("BAD_VALUE", f"{where}: folds.run", str(beyond), f"0 to {sweep.folds.count - 1}")
    name = sweep.fit_on.init_args.get("cohort")
    cohort = sweep.cohorts.get(name) if isinstance(name, str) else None
    if isinstance(cohort, CohortRecipe) and cohort.scans < sweep.folds.count:
        yield Problem(
            "TOO_MANY_FOLDS", f"{where}: folds.count",
            f"{sweep.folds.count} folds of {number_of(cohort.scans, 'scan')}",
            f"at most {cohort.scans}", "fewer folds or more scans",
        )  # fmt: skip


def _cohort_problems(sweep: Sweep, where: str) -> Iterator[Problem]:
    for place, component in _components(sweep):
        name = component.init_args.get("cohort")
        if place.startswith("models") or (name is None and "cohort" not in component.init_args):
            continue
        if name not in sweep.cohorts:
            near = near_matches(str(name), list(sweep.cohorts))
            remedy = f"did you mean {near[0]}?" if near else "add it under cohorts"
            known = f"one of {', '.join(sweep.cohorts)}"
            yield Problem("UNKNOWN_COHORT", f"{where}: {place}.init_args.cohort", repr(name), known, remedy)


def _trainer_problems(trainer: Mapping[str, JsonValue], where: str) -> Iterator[Problem]:
    for name in sorted(OWNED_BY_CELL & set(trainer)):
        yield Problem("OWNED_BY_CELL", f"{where}: trainer.{name}", repr(trainer[name]), "nothing here",
                      "remove it; `training` holds epochs and precision")  # fmt: skip
    given = {name: value for name, value in trainer.items() if name not in OWNED_BY_CELL}
    yield from _argument_problems(
        signature("pytorch_lightning.trainer.trainer.Trainer"), given, f"{where}: trainer", required=False
    )


def _components(sweep: Sweep) -> Iterator[tuple[str, Component]]:
    for index, model in enumerate(sweep.models):
        yield f"models.{index}", model
    yield "fit_on", sweep.fit_on
    if sweep.pretrain_on is not None:
        yield "pretrain_on", sweep.pretrain_on
    for index, test in enumerate(sweep.test_on):
        yield f"test_on.{index}", test


def _class_problems_of_raw(content: Mapping[str, Any], where: str) -> Iterator[Problem]:
    """Check class paths in a file whose shape is wrong elsewhere."""
    for group in ("models", "test_on", "fit_on", "pretrain_on"):
        value = content.get(group)
        entries = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
        for index, entry in entries:
            if not isinstance(entry, dict) or not isinstance(entry.get("class_path"), str):
                continue
            arguments = entry.get("init_args") or {}
            place = group if index is None else f"{group}.{index}"
            if isinstance(arguments, dict):
                yield from _class_problems(entry["class_path"], arguments, f"{where}: {place}")


def _class_problems(class_path: str, arguments: Mapping[str, Any], place: str) -> Iterator[Problem]:
    try:
        found = signature(class_path)
    except UnknownClassError as error:
        remedy = (
            f"did you mean {' or '.join(error.near)}?" if error.near else "check the spelling, or install it"
        )
        yield Problem("UNKNOWN_CLASS", f"{place}.class_path", str(error), "package.module.Class", remedy)
        return
    except (SyntaxError, OSError) as error:
        yield Problem("UNKNOWN_CLASS", f"{place}.class_path", str(error), "a module that Python can read")
        return
    is_model = ".models." in f".{place.split(': ')[-1]}."
    for name in sorted(set(GIVEN_BY_CELL) & set(arguments) if not is_model else ()):
        yield Problem("GIVEN_BY_CELL", f"{place}.init_args.{name}", repr(arguments[name]), "nothing here",
                      f"set {GIVEN_BY_CELL[name]} instead")  # fmt: skip
    given = {name: value for name, value in arguments.items() if is_model or name not in GIVEN_BY_CELL}
    yield from _argument_problems(found, given, f"{place}.init_args", required=True)


def _argument_problems(
    found: Signature, given: Mapping[str, Any], place: str, *, required: bool
) -> Iterator[Problem]:
    known = [name for name in found.arguments if name != "self"]
    for name, value in given.items():
        if name in found.arguments:
            yield from _value_problems(found.arguments[name], value, f"{place}.{name}")
        elif not found.open:
            near = near_matches(name, known)
            remedy = f"did you mean {' or '.join(near)}?" if near else "remove it"
            wanted = f"one of {', '.join(known)}" if known else "no arguments"
            yield Problem("UNKNOWN_ARGUMENT", f"{place}.{name}", f"argument {name!r}", wanted, remedy)
    for argument in found.arguments.values() if required else ():
        if argument.required and argument.name not in given and argument.name not in GIVEN_BY_CELL:
            yield Problem(
                "MISSING_ARGUMENT", f"{place}.{argument.name}", "nothing", "a value", f"add {argument.name}"
            )


def _value_problems(argument: Argument, value: Any, place: str) -> Iterator[Problem]:
    if argument.choices and value not in argument.choices:
        near = near_matches(str(value), [str(choice) for choice in argument.choices])
        remedy = f"did you mean {' or '.join(near)}?" if near else ""
        yield Problem(
            "BAD_VALUE", place, repr(value), f"one of {', '.join(map(str, argument.choices))}", remedy
        )
    elif argument.kind and not _is_kind(value, argument.kind):
        yield Problem("BAD_VALUE", place, repr(value), f"a value of type {argument.kind}")
    elif argument.name in RANGES and isinstance(value, int | float) and not _in_range(argument.name, value):
        yield Problem("BAD_VALUE", place, repr(value), _range_text(argument.name))


def _is_kind(value: Any, kind: str) -> bool:
    if kind == "float":
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, {"bool": bool, "str": str}[kind])


def _in_range(name: str, value: float) -> bool:
    low, high, closed = RANGES[name]
    return (low <= value if closed else low < value) and value <= high


def _range_text(name: str) -> str:
    low, high, closed = RANGES[name]
    if math.isinf(high):
        return f"{low:g} or more" if closed else f"more than {low:g}"
    return f"{low:g} to {high:g}"
