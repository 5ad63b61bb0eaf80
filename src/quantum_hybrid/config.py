"""What a run is told to do, declared once: field, type, default, range, and what the field means.

`RunConfig` says what is distilled into what, `ServerConfig` who writes the text. The command line's
flags and its `--help`, the YAML file and Atropos's own model are all made from these two. A value
that is not allowed raises `UsageError`, one line that names the field in backticks, the value and
what is allowed. `model_fields_set` names what was given, and not left at its default.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import platformdirs
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    Strict,
    ValidationError,
    model_validator,
)

from quantum_hybrid.errors import UsageError
from quantum_hybrid.keys import HERMES_HOST, KEY_VARIABLE

EMBEDDED = "embedded"
"""Name of the model that comes with the install, as teacher and as backbone."""

PER_SERVER = ("base_url", "model_name", "input_price", "output_price")
"""Fields of `ServerConfig` that hold a value for each server, parted by commas."""

HERMES_BASE_URL = f"https://{HERMES_HOST}/v1"
HERMES_MODEL = "Hermes-3-Llama-3.1-70B"

MAX_QUBITS = 20
"""Above this a training step's statevectors fit no laptop."""
MAX_DENSE_QUBITS = 10
"""Above this the dense engine's matrix is larger than the states it saves."""


def cache_directory() -> Path:
    """Where converted models and the teacher's answers are kept between runs."""
    named = os.environ.get("QUANTUM_HYBRID_CACHE")
    return Path(named) if named else Path(platformdirs.user_cache_dir("quantum-hybrid"))


def writable_cache_directory() -> Path:
    """`cache_directory`, made if it was not there; `UsageError` where nothing can be written."""
    folder = cache_directory()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise UsageError(
            f"{folder}: models and answers cannot be kept there ({error.strerror}); name a folder "
            "that can be written in QUANTUM_HYBRID_CACHE"
        ) from error


def user_path(named: str, where: str) -> Path:
    """The path with `~` and `~user` as the home directory that they stand for.

    `where` is what a `UsageError` begins with, for a user that there is not.
    """
    try:
        return Path(named).expanduser()
    except RuntimeError as error:
        user = Path(named).parts[0]
        raise UsageError(f"{where}: no home directory is known for {user}") from error


Text = Annotated[str, Strict(False)]
"""A number in a YAML file is text where text is wanted: a price, a model called by a number."""
Name = Annotated[Text, Field(min_length=1)]


class Settings(BaseModel):
    """Values that are checked whenever they are given and never change; errors are one line."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        coerce_numbers_to_str=True,
    )

    @model_validator(mode="wrap")
    @classmethod
    def _in_one_line(cls, values: Any, check: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return check(values)
        except ValidationError as error:
            raise UsageError(first_line(cls, error)) from None

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other values, checked like any; what was not given is not given there."""
        return type(self)(**self.model_dump(exclude_unset=True) | dict(update or {}))


def first_line(model: type[BaseModel], error: ValidationError) -> str:
    """What is wrong with the first of the fields that pydantic complains about."""
    first = error.errors(include_url=False)[0]
    name, value = ".".join(map(str, first["loc"])), first["input"]
    kind, _, reason = first["type"].partition("_")
    field = model.model_fields.get(name)
    if first["type"] == "extra_forbidden":
        close = difflib.get_close_matches(name, model.model_fields, n=1)
        return f"`{name}`: no such field" + (f", did you mean `{close[0]}`?" if close else "")
    if expected := first.get("ctx", {}).get("expected"):
        choices = expected.replace("'", "").replace(" or ", ", ")
        return f"`{name}` {value!r}: must be one of {choices}"
    if reason in ("type", "parsing"):
        return f"`{name}` {value!r}: must be a {'str' if kind == 'string' else kind}"
    if first["type"] == "string_too_short":
        return f"`{name}` {value!r}: must not be empty"
    if field is not None and (allowed := _range(field.metadata)):
        return f"`{name}` {value}: must be {allowed}"
    return f"`{name}` {value!r}: {first['msg']}"


def _range(constraints: list[Any]) -> str:
    """A field's constraints in words; empty for one that has no range."""
    low, above, high = (
        next((getattr(c, kind) for c in constraints if hasattr(c, kind)), None)
        for kind in ("ge", "gt", "le")
    )
    if high is not None:
        return f"from {low} to {high:,}" if above is None else f"above {above}, to {high:,}"
    if above is not None:
        return f"greater than {above}"
    return "" if low is None else f"at least {low}"


class ServerConfig(Settings, use_attribute_docstrings=True):
    """The teacher's server. Without a key and without a base_url: the embedded teacher."""

    base_url: Text | None = None
    """Address of an OpenAI-compatible server, up to and including /v1. Several, separated by
    commas: the first one that works is asked."""
    model_name: Text | None = None
    """Model to ask for; by default Hermes-3-70B, or the server's only model. For several servers:
    one for all, or one each, separated by commas."""
    timeout: float = Field(default=120.0, gt=0)
    """Longest wait for one request, in seconds."""
    num_max_requests_at_once: int = Field(default=8, ge=1, le=1024)
    """Requests under way at the same time, to each server."""
    input_price: Text | None = None
    """Price of a million prompt tokens; for several servers one for all, or one each."""
    output_price: Text | None = None
    """Price of a million tokens that the teacher writes; likewise."""
    max_cost: float | None = Field(default=None, ge=0)
    """Stop, resumable, before the run has cost more than this since it was started."""
    max_requests: int | None = Field(default=None, ge=0)
    """Stop, resumable, before a further request, retries included, since it was started."""
    allow_clear_text: bool = False
    """Send a key to a server over http:// too. Without this only to one on this machine."""

    @model_validator(mode="after")
    def _check_servers(self) -> Self:
        for url in self.base_urls():
            if not url.startswith(("http://", "https://")) or url.endswith("//"):
                raise UsageError(f"`base_url` {url!r}: must start with http:// or https://")
            if "@" in url:
                raise UsageError(
                    f"`base_url`: must hold no user name or password; put a key into {KEY_VARIABLE}"
                )
            if "?" in url or "#" in url:
                raise UsageError(
                    f"`base_url`: must be an address without a query; put a key into {KEY_VARIABLE}"
                )
            check_address(url)
        if len(set(self.base_urls())) < len(self.base_urls()):
            raise UsageError(f"`base_url` {self.base_url!r}: names a server twice")
        for name in PER_SERVER[1:]:
            self.for_each_server(name)
        self._check_prices()
        return self

    def base_urls(self) -> list[str]:
        """The addresses in the order in which they are asked; none for the default teacher."""
        if self.base_url is None:
            return []
        return [url.strip().rstrip("/") for url in self.base_url.split(",")]

    def for_each_server(self, name: str) -> list[str | None]:
        """The values of a field that has one for each server."""
        given: str | None = getattr(self, name)
        n_servers = max(1, len(self.base_urls()))
        values = [value.strip() or None for value in (given or "").split(",")]
        if len(values) == 1:
            return values * n_servers
        if len(values) != n_servers:
            raise UsageError(
                f"`{name}` {given!r}: has {len(values)} values for {n_servers} "
                f"server{'s' if n_servers > 1 else ''} in `base_url`"
            )
        return values

    def _check_prices(self) -> None:
        prices = {name: self.for_each_server(name) for name in ("input_price", "output_price")}
        for name, values in prices.items():
            for value in values:
                if value is not None and not _is_price(value):
                    raise UsageError(f"`{name}` {value!r}: must be a number from 0 up")
        for one, other in zip(*prices.values(), strict=True):
            if (one is None) != (other is None):
                raise UsageError("`input_price` and `output_price`: give both")
            if self.max_cost is not None and one is None:
                raise UsageError(
                    f"`max_cost` {self.max_cost}: needs `input_price` and "
                    "`output_price` of every server"
                )


def check_address(base_url: str) -> None:
    """A `UsageError` for an address that the HTTP library fails on, each time in another way."""
    if not base_url.isprintable() or " " in base_url:
        raise UsageError(f"`base_url` {base_url!r}: must be printable, without spaces")
    try:
        parts = urlsplit(base_url)
        reason = "" if parts.hostname and parts.port != 0 else "it names no host, or port 0"
    except ValueError as error:
        reason = str(error)
    if reason:
        raise UsageError(f"`base_url` {base_url!r}: is not an address: {reason}")


def _is_price(value: str) -> bool:
    try:
        return 0 <= float(value) < math.inf
    except ValueError:
        return False


class RunConfig(Settings, use_attribute_docstrings=True):
    """One run: what is distilled into what, how, and where it is written."""

    total_steps: int = Field(default=50, ge=1, le=1_000_000)
    """Training steps; each is one prompt with its group of answers."""
    group_size: int = Field(default=4, ge=1, le=128)
    """Answers the teacher writes for each prompt."""
    max_token_length: int = Field(default=64, ge=2, le=4096)
    """Longest answer, in the teacher's tokens."""
    temperature: float = Field(default=0.7, ge=0, le=10)
    """Sampling temperature of the teacher."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    """Seed of the prompt order, the initialisation and the teacher's sampling."""
    run_dir: Name | None = None
    """Directory of the run; an interrupted run's resumes it. Default: runs/<date-time>."""

    base_model_name: Text = EMBEDDED
    """Backbone: `embedded`, a local folder, or a Hugging Face hub name such as gpt2."""
    drop_layers: Text = "auto"
    """Transformer layers to drop from the backbone, first-last, or `none`; `auto`: 11-20 of the
    embedded model, none of any other."""
    train_backbone: Literal["none", "lora", "full"] = "lora"
    """How the backbone adapts while training."""
    lora_rank: int = Field(default=16, ge=1, le=1024)
    """Rank of the LoRA adapters, on every linear layer of the backbone."""

    n_qubits: int = Field(default=8, ge=1, le=MAX_QUBITS)
    """Qubits of each of the two circuits."""
    n_layers: int = Field(default=3, ge=1, le=100)
    """Layers of RY rotations and CNOTs of each circuit."""
    entangler: Literal["ring", "chain", "none"] = "ring"
    """Which neighbours the CNOTs of a layer join."""
    reupload: bool = False
    """Encode the inputs again before every layer."""
    engine: Literal["auto", "native", "dense", "statevector", "tensor_network", "pennylane"] = (
        "auto"
    )
    """What computes the circuit."""
    mixing: Literal["logits", "probability"] = "logits"
    """Whether alpha mixes the two pathways' logits or their probabilities."""

    learning_rate: float | None = Field(default=None, ge=0, le=10)
    """Peak learning rate of the backbone. Default: 2e-3 for lora, 5e-5 for full."""
    head_learning_rate: float = Field(default=3e-3, ge=0, le=10)
    """Peak learning rate of the classical pathway."""
    quantum_learning_rate: float = Field(default=3e-2, ge=0, le=10)
    """Peak learning rate of the quantum pathway; of `down`, divided by the hidden size."""
    alpha_learning_rate: float = Field(default=1.0, ge=0, le=10)
    """Peak learning rate of alpha, by exponentiated gradient."""
    warmup_steps: int = Field(default=5, ge=0, le=1_000_000)
    """Steps over which the learning rates rise from zero; they fall linearly afterwards. A shorter
    run has a default of all its steps."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's weight decay, on the matrices of the backbone and the classical pathway."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are clipped to this norm, each part of the student by itself."""
    classical_loss_weight: float = Field(default=0.5, ge=0)
    """Weight of the classical pathway's own loss in the objective."""
    quantum_loss_weight: float = Field(default=0.5, ge=0)
    """Weight of the quantum pathway's own loss in the objective."""
    distill_top_logprobs: int = Field(default=0, ge=0, le=1000)
    """Teacher's most likely tokens to learn from at each answer token; 0: from its text alone.
    Answers are asked for anew with them, in replies about 100 bytes longer for each of them at
    each token."""
    distill_loss: Literal["kl", "uld"] = "kl"
    """How to learn from them. `kl`: T^2 KL(teacher, student), from a teacher of the student's
    vocabulary; `uld`: distance of the probabilities by rank, from one of any vocabulary."""
    distill_weight: float = Field(default=1.0, ge=0)
    """Weight of that in the objective."""
    distill_temperature: float = Field(default=1.0, gt=0, le=100)
    """T: teacher's and student's probabilities are taken to the power of 1/T, those of all other
    tokens together."""

    perplexity_weight: float = Field(default=0.7, ge=0)
    """Weight of the student's likelihood of an answer in its reward."""
    quantum_weight: float = Field(default=0.3, ge=0)
    """Weight of the quantum pathway's contribution to an answer in its reward."""

    steps_per_eval: int = Field(default=10, ge=1, le=1_000_000)
    """Held-out evaluation every so many steps, besides the first and last."""
    eval_prompts: int = Field(default=24, ge=1, le=1000)
    """Held-out prompts, one answer each."""
    eval_split: Literal["validation", "test"] = "test"
    """Held-out part that is evaluated; tune on validation only."""
    teacher_top_logprobs: int = Field(default=20, ge=0, le=1000)
    """Teacher's most likely tokens to ask for on held-out answers, for eval/kl_to_teacher."""

    steps_per_checkpoint: int = Field(default=10, ge=1, le=1_000_000)
    """Checkpoint every so many steps, besides the last: what a run that is killed repeats."""
    checkpoints_kept: int = Field(default=2, ge=1, le=1000)
    """Checkpoints that stay, the last ones; should one be damaged, the one before it is used."""

    use_wandb: bool = True
    """Log to Weights & Biases as well; offline where no key is found."""
    wandb_name: Name | None = None
    """Name of the run on Weights & Biases. Default: the run directory's name."""
    wandb_project: Text = "atropos-environments_hack0_env_quant"
    """Project on Weights & Biases."""
    data_path_to_save_groups: Name | None = None
    """Scored groups, as Atropos jsonl. Default: groups.jsonl in the run directory."""

    @model_validator(mode="after")
    def _check_run(self) -> Self:
        if self.distill_top_logprobs and not self.teacher_top_logprobs:
            raise UsageError(
                "`teacher_top_logprobs` 0: must be at least 1 with `distill_top_logprobs` "
                f"{self.distill_top_logprobs}; the held-out answers show whether the teacher's "
                "log-probabilities can be learned from"
            )
        if self.distill_loss == "uld" and not self.distill_top_logprobs:
            raise UsageError("`distill_loss` uld: needs `distill_top_logprobs` of at least 1")
        if "warmup_steps" not in self.model_fields_set:
            object.__setattr__(self, "warmup_steps", min(self.warmup_steps, self.total_steps))
        if self.warmup_steps > self.total_steps:
            raise UsageError(
                f"`warmup_steps` {self.warmup_steps}: must be at most `total_steps`, "
                f"which is {self.total_steps}"
            )
        if self.engine == "dense" and (self.reupload or self.n_qubits > MAX_DENSE_QUBITS):
            raise UsageError(
                f"`engine` dense: is for at most {MAX_DENSE_QUBITS} qubits without `reupload`; "
                "use auto or statevector"
            )
        self.dropped_layers()
        return self

    def backbone_learning_rate(self) -> float:
        """Peak learning rate of the backbone's trainable parameters."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 5e-5 if self.train_backbone == "full" else 2e-3

    def distillation(self) -> tuple[int, Literal["kl", "uld"], float, float]:
        """How it learns from the teacher's log-probabilities, as `distillation.method_for` takes
        it: how many of them, by which loss, at which weight and temperature."""
        return (
            self.distill_top_logprobs,
            self.distill_loss,
            self.distill_weight,
            self.distill_temperature,
        )

    def dropped_layers(self) -> range:
        """Layers to drop, as indices into the unpruned backbone; empty for none."""
        named = self.drop_layers
        if named == "auto":
            return range(11, 21) if self.base_model_name == EMBEDDED else range(0)
        if named == "none":
            return range(0)
        first, dash, last = named.partition("-")
        if not (dash and first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
            raise UsageError(
                f"`drop_layers` {named!r}: must be auto, none, or first-last such as 11-20"
            )
        return range(int(first), int(last) + 1)


def config_hash(config: RunConfig | ServerConfig) -> str:
    """First 12 hex digits of the SHA-256 of the configuration's canonical JSON."""
    text = json.dumps(config.model_dump(), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
