"""Every setting of a run: its type, default, range and meaning, each declared once.

`RunConfig` describes the run, `ServerConfig` the teacher's server. The command line's flags and
`--help` texts, the keys of the YAML file and the model that Atropos sees are generated from these
two classes. A value outside its range raises `UsageError`: one line that names the field in
backticks, the value and the allowed range. `model_fields_set` holds the names of the fields that
were set explicitly.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

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
"""Name of the model that comes with the install. It serves as teacher and as backbone."""

PER_SERVER = ("base_url", "model_name", "input_price", "output_price")
"""Fields of `ServerConfig` that take one value per server, separated by commas."""

HERMES_BASE_URL = f"https://{HERMES_HOST}/v1"
HERMES_MODEL = "Hermes-3-Llama-3.1-70B"

MAX_QUBITS = 20
"""With more qubits the statevectors of a training step do not fit into a laptop's memory."""
MAX_DENSE_QUBITS = 10
"""With more qubits the matrix of the dense engine is larger than the states that it replaces."""


Text = Annotated[str, Strict(False)]
"""Text that a YAML file may give as a number: a price, or a model whose name is a number."""
Name = Annotated[Text, Field(min_length=1)]


KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "string": "text"}
"""Types in the words of an error message, by pydantic's names for them."""


class Settings(BaseModel):
    """Immutable settings, validated on construction. Errors are one-line `UsageError`s."""

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
        """A validated copy with some fields changed. Fields that were not set stay unset."""
        return type(self)(**self.model_dump(exclude_unset=True) | dict(update or {}))


def first_line(model: type[BaseModel], error: ValidationError) -> str:
    """One line about the first field that pydantic rejects: name, value and allowed range."""
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
        return f"`{name}` {value!r}: must be {KINDS.get(kind, kind)}"
    if first["type"] == "string_too_short":
        return f"`{name}` {value!r}: must not be empty"
    if field is not None and (allowed := _range(field.metadata)):
        return f"`{name}` {value}: must be {allowed}"
    return f"`{name}` {value!r}: {first['msg']}"


def _range(constraints: list[Any]) -> str:
    """A field's constraints in words; empty for a field without a range."""
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
    """The teacher's server. Without a key and without a base_url, the embedded teacher is used."""

    base_url: Text | None = None
    """Address of an OpenAI-compatible server, up to and including /v1. If several are given,
    separated by commas, the first one that works is used."""
    model_name: Text | None = None
    """Name of the teacher's model. Default: Hermes-3-70B without a base_url, otherwise the server's
    only model. For several servers: one name for all, or one per server, separated by commas."""
    timeout: float = Field(default=120.0, gt=0)
    """Time limit for one request, in seconds."""
    num_max_requests_at_once: int = Field(default=8, ge=1, le=1024)
    """Maximum number of concurrent requests to each server."""
    input_price: Text | None = None
    """Price of a million prompt tokens. For several servers: one price for all, or one per server,
    separated by commas."""
    output_price: Text | None = None
    """Price of a million generated tokens. For several servers: as for input_price."""
    max_cost: float | None = Field(default=None, ge=0)
    """Upper limit on the cost since the program was started, in the currency of the prices. The run
    stops before it exceeds the limit and can be resumed."""
    max_requests: int | None = Field(default=None, ge=0)
    """Upper limit on the requests since the program was started, retries included. The run stops
    before it exceeds the limit and can be resumed."""
    allow_clear_text: bool = False
    """Whether to send an API key over http:// to another machine. By default a key goes over
    http:// to this machine only."""

    @model_validator(mode="after")
    def _check_servers(self) -> Self:
        for url in self.base_urls():
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
        """The addresses in order of preference; empty for the default teacher."""
        if self.base_url is None:
            return []
        return [url.strip().rstrip("/") for url in self.base_url.split(",")]

    def for_each_server(self, name: str) -> list[str | None]:
        """One value per server for a field of `PER_SERVER`; a single value applies to all.

        Raises `UsageError` if the number of values does not match the number of servers.
        """
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


def check_address(url: str, field: str = "base_url") -> None:
    """Raise `UsageError`, which names the field, for an address that an HTTP library cannot use.

    The libraries themselves raise a different exception for each kind of bad address.
    """
    if "@" in url:
        raise UsageError(
            f"`{field}`: must hold no user name or password; a teacher's key goes into "
            f"{KEY_VARIABLE}"
        )
    if not url.startswith(("http://", "https://")) or url.endswith("//"):
        raise UsageError(f"`{field}` {url!r}: must start with http:// or https://")
    if not url.isprintable() or " " in url:
        raise UsageError(f"`{field}` {url!r}: must be printable, without spaces")
    try:
        parts = urlsplit(url)
        reason = "" if parts.hostname and parts.port != 0 else "it names no host, or port 0"
    except ValueError as error:
        reason = str(error)
    if reason:
        raise UsageError(f"`{field}` {url!r}: is not an address: {reason}")


def _is_price(value: str) -> bool:
    try:
        return 0 <= float(value) < math.inf
    except ValueError:
        return False


class RunConfig(Settings, use_attribute_docstrings=True):
    """The run: teacher text, student, training, evaluation and output."""

    total_steps: int = Field(default=50, ge=1, le=1_000_000)
    """Number of training steps. A step trains on one prompt and its group of answers."""
    group_size: int = Field(default=4, ge=1, le=128)
    """Number of answers that the teacher writes for each prompt."""
    max_token_length: int = Field(default=64, ge=2, le=4096)
    """Maximum length of an answer, in the teacher's tokens."""
    temperature: float = Field(default=0.7, ge=0, le=10)
    """Sampling temperature of the teacher."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    """Seed of the prompt order, the initialisation and the teacher's sampling."""
    prompts: Name | None = None
    """File of prompts: text with one prompt a line, or lines of JSON with `text` or `prompt`.
    Near-duplicates are left out. The run keeps a copy. Default: the 344 built-in prompts."""
    run_dir: Name | None = None
    """Directory of the run. The directory of an interrupted run resumes that run. Default:
    runs/<date-time>."""

    base_model_name: Text = EMBEDDED
    """Backbone: `embedded`, a local folder, or a Hugging Face hub name such as gpt2."""
    drop_layers: Text = "auto"
    """Transformer layers to drop from the backbone: first-last, counted from 0, or `none`. `auto`
    drops 11-20 of the embedded model and none of another one."""
    train_backbone: Literal["none", "lora", "full"] = "lora"
    """What is trained in the backbone: nothing, LoRA adapters, or all its weights."""
    lora_rank: int = Field(default=16, ge=1, le=1024)
    """Rank of the LoRA adapters. Every linear layer of the backbone has one."""

    n_qubits: int = Field(default=8, ge=1, le=MAX_QUBITS)
    """Number of qubits in each of the two circuits."""
    n_layers: int = Field(default=3, ge=1, le=100)
    """Number of layers in each circuit. A layer is one RY rotation per qubit, then CNOTs."""
    entangler: Literal["ring", "chain", "none"] = "ring"
    """CNOTs of a layer: between all neighbours on a ring, on a chain, or none."""
    reupload: bool = False
    """Whether to encode the inputs before every layer and not only before the first."""
    engine: Literal["auto", "native", "dense", "statevector", "tensor_network", "pennylane"] = (
        "auto"
    )
    """Simulator of the circuits. `auto` chooses one by the circuit's size and the machine."""
    mixing: Literal["logits", "probability"] = "logits"
    """Whether alpha mixes the logits or the probabilities of the two pathways."""

    learning_rate: float | None = Field(default=None, ge=0, le=10)
    """Peak learning rate of the backbone. Default: 2e-3 for lora, 5e-5 for full."""
    head_learning_rate: float = Field(default=3e-3, ge=0, le=10)
    """Peak learning rate of the classical pathway."""
    quantum_learning_rate: float = Field(default=3e-2, ge=0, le=10)
    """Peak learning rate of the quantum pathway. Its first linear layer, `down`, has this rate
    divided by the hidden size."""
    alpha_learning_rate: float = Field(default=1.0, ge=0, le=10)
    """Peak learning rate of alpha, which is updated by exponentiated gradient."""
    warmup_steps: int = Field(default=5, ge=0, le=1_000_000)
    """Number of steps over which the learning rates rise from zero; they fall linearly afterwards.
    In a run with fewer steps than the default, the warm-up lasts the whole run."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's weight decay, on the matrices of the backbone and the classical pathway."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Maximum gradient norm. Each part of the student is clipped separately."""
    classical_loss_weight: float = Field(default=0.5, ge=0)
    """Weight of the classical pathway's own cross-entropy in the objective."""
    quantum_loss_weight: float = Field(default=0.5, ge=0)
    """Weight of the quantum pathway's own cross-entropy in the objective."""
    distill_top_logprobs: int = Field(default=0, ge=0, le=1000)
    """k: the student learns from the teacher's k most likely tokens at each answer token. With 0 it
    learns from the text alone. Another k requests new answers from the teacher; a reply grows by
    about 100 bytes per listed token."""
    distill_loss: Literal["kl", "uld"] = "kl"
    """Loss on the teacher's probabilities. `kl`: T^2 KL(teacher, student); the teacher must have
    the student's vocabulary. `uld`: L1 distance of the sorted probabilities; the teacher may have
    any vocabulary."""
    distill_weight: float = Field(default=1.0, ge=0)
    """Weight of that loss in the objective."""
    distill_temperature: float = Field(default=1.0, gt=0, le=100)
    """Temperature T of that loss: the probabilities of teacher and student are raised to the power
    1/T and normalised. All unlisted tokens together count as one."""

    perplexity_weight: float = Field(default=0.7, ge=0)
    """Weight of the student's likelihood in the reward of an answer."""
    quantum_weight: float = Field(default=0.3, ge=0)
    """Weight of the quantum pathway's contribution in the reward of an answer."""

    steps_per_eval: int = Field(default=10, ge=1, le=1_000_000)
    """Number of steps between held-out evaluations. There is also one before the first step and one
    after the last."""
    eval_prompts: int = Field(default=24, ge=1, le=1000)
    """Number of held-out prompts. The teacher writes one answer for each."""
    eval_split: Literal["validation", "test"] = "test"
    """Held-out split to evaluate on. Choose settings on validation only."""
    teacher_top_logprobs: int = Field(default=20, ge=0, le=1000)
    """Number of the teacher's most likely tokens to request with held-out answers, for
    eval/kl_to_teacher."""

    steps_per_checkpoint: int = Field(default=10, ge=1, le=1_000_000)
    """Number of steps between checkpoints; the last step always has one. A killed run repeats at
    most this number of steps."""
    checkpoints_kept: int = Field(default=2, ge=1, le=1000)
    """Number of checkpoints to keep. If the newest one is damaged, the run resumes from the one
    before it."""

    use_wandb: bool = True
    """Whether to log to Weights & Biases too. Without a login there it logs offline, to disk."""
    wandb_name: Name | None = None
    """Name of the run on Weights & Biases. Default: the run directory's name."""
    wandb_project: Text = "atropos-environments_hack0_env_quant"
    """Project on Weights & Biases."""
    data_path_to_save_groups: Name | None = None
    """File for the scored groups, in Atropos's JSON-lines format. Default: groups.jsonl in the run
    directory."""

    @model_validator(mode="after")
    def _check_run(self) -> Self:
        if self.distill_top_logprobs and not self.teacher_top_logprobs:
            raise UsageError(
                "`teacher_top_logprobs` 0: must be at least 1 with `distill_top_logprobs` "
                f"{self.distill_top_logprobs}; the held-out answers show whether the teacher's "
                "log-probabilities can be used"
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
        """Arguments of `distillation.method_for`: number of listed tokens, loss, weight, T."""
        return (
            self.distill_top_logprobs,
            self.distill_loss,
            self.distill_weight,
            self.distill_temperature,
        )

    def dropped_layers(self) -> range:
        """Layers to drop, as indices into the unpruned backbone; empty for none.

        Raises `UsageError` if `drop_layers` is not auto, none, or first-last.
        """
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
    fields = config.model_dump()
    if fields.get("prompts") is None:  # As in runs older than this field.
        fields.pop("prompts", None)
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
