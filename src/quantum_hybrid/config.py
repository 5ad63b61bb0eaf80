"""What a run is told to do: frozen dataclasses, validated once, with every default written here.

`RunConfig` holds the `--env.*` flags and `ServerConfig` the `--openai.*` flags of
`python atropos.py process`. The docstring under each field is what `--help` prints. A value that is
not allowed raises `UsageError` naming the flag, the value and the allowed range, before anything
heavy is imported and before anything is written.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import platformdirs

from quantum_hybrid.errors import UsageError

EMBEDDED = "embedded"
"""Name of the model that comes with the install, as teacher and as backbone."""

KEY_VARIABLE = "ATROPOS_HERMES_API_KEY"
"""Environment variable that holds the API key of the teacher; keys are read from nowhere else."""

PER_SERVER = ("base_url", "model_name", "input_price", "output_price")
"""Fields of `ServerConfig` that hold a value for each server, parted by commas."""

HERMES_BASE_URL = "https://inference-api.nousresearch.com/v1"
HERMES_MODEL = "Hermes-3-Llama-3.1-70B"

MAX_QUBITS = 20
"""Above this a training step's statevectors fit no laptop."""
MAX_DENSE_QUBITS = 10
"""Above this the dense engine's matrix is larger than the states it saves."""


def cache_directory() -> Path:
    """Where converted models and the teacher's answers are kept between runs."""
    named = os.environ.get("QUANTUM_HYBRID_CACHE")
    return Path(named) if named else Path(platformdirs.user_cache_dir("quantum-hybrid"))


@dataclass(frozen=True)
class ServerConfig:
    """The teacher's server. Without a key and without a base_url: the embedded teacher."""

    base_url: str | None = None
    """Address of an OpenAI-compatible server, up to and including /v1. Several, separated by
    commas: the first one that works is asked."""
    model_name: str | None = None
    """Model to ask for; by default Hermes-3-70B, or the server's only model. For several servers:
    one for all, or one each, separated by commas."""
    timeout: float = 120.0
    """Longest wait for one request, in seconds."""
    num_max_requests_at_once: int = 8
    """Requests under way at the same time, to each server."""
    input_price: str | None = None
    """Price of a million prompt tokens; for several servers one for all, or one each."""
    output_price: str | None = None
    """Price of a million tokens that the teacher writes; likewise."""
    max_cost: float | None = None
    """Stop, resumable, before the run has cost more than this since it was started."""
    max_requests: int | None = None
    """Stop, resumable, before a further request, retries included, since it was started."""

    def __post_init__(self) -> None:
        flag = "--openai."
        for url in self.base_urls():
            if not url.startswith(("http://", "https://")) or url.endswith("//"):
                raise UsageError(f"{flag}base_url {url!r}: must start with http:// or https://")
            if "@" in url:
                raise UsageError(
                    f"{flag}base_url: must hold no user name or password; put a key into "
                    f"{KEY_VARIABLE}"
                )
            if "?" in url or "#" in url:
                raise UsageError(
                    f"{flag}base_url: must be an address without a query; put a key into "
                    f"{KEY_VARIABLE}"
                )
        if len(set(self.base_urls())) < len(self.base_urls()):
            raise UsageError(f"{flag}base_url {self.base_url!r}: names a server twice")
        for name in PER_SERVER[1:]:
            self.for_each_server(name)
        _check_range(flag, "timeout", self.timeout, low=0, low_included=False)
        _check_range(
            flag, "num_max_requests_at_once", self.num_max_requests_at_once, low=1, high=1024
        )
        for name in ("max_cost", "max_requests"):
            if getattr(self, name) is not None:
                _check_range(flag, name, getattr(self, name), low=0)
        self._check_prices()

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
                f"--openai.{name} {given!r}: has {len(values)} values for {n_servers} "
                f"server{'s' if n_servers > 1 else ''} in --openai.base_url"
            )
        return values

    def _check_prices(self) -> None:
        prices = {name: self.for_each_server(name) for name in ("input_price", "output_price")}
        for name, values in prices.items():
            for value in values:
                if value is not None and not _is_price(value):
                    raise UsageError(f"--openai.{name} {value!r}: must be a number from 0 up")
        for one, other in zip(*prices.values(), strict=True):
            if (one is None) != (other is None):
                raise UsageError("--openai.input_price and --openai.output_price: give both")
            if self.max_cost is not None and one is None:
                raise UsageError(
                    f"--openai.max_cost {self.max_cost}: needs --openai.input_price and "
                    "--openai.output_price of every server"
                )


def _is_price(value: str) -> bool:
    try:
        return 0 <= float(value) < math.inf
    except ValueError:
        return False


@dataclass(frozen=True)
class RunConfig:
    """One run: what is distilled into what, how, and where it is written."""

    total_steps: int = 50
    """Training steps; each is one prompt with its group of answers."""
    group_size: int = 4
    """Answers the teacher writes for each prompt."""
    max_token_length: int = 64
    """Longest answer, in the teacher's tokens."""
    temperature: float = 0.7
    """Sampling temperature of the teacher."""
    seed: int = 0
    """Seed of the prompt order, the initialisation and the teacher's sampling."""
    run_dir: str | None = None
    """Directory of the run; an interrupted run's resumes it. Default: runs/<date-time>."""

    base_model_name: str = EMBEDDED
    """Backbone: `embedded`, a local folder, or a Hugging Face hub name such as gpt2."""
    drop_layers: str = "auto"
    """Transformer layers to drop from the backbone, first-last, or `none`; `auto`: 11-20 of the
    embedded model, none of any other."""
    train_backbone: Literal["none", "lora", "full"] = "lora"
    """How the backbone adapts while training."""
    lora_rank: int = 16
    """Rank of the LoRA adapters, on every linear layer of the backbone."""

    n_qubits: int = 8
    """Qubits of each of the two circuits."""
    n_layers: int = 3
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

    learning_rate: float | None = None
    """Peak learning rate of the backbone. Default: 2e-3 for lora, 5e-5 for full."""
    head_learning_rate: float = 3e-3
    """Peak learning rate of the classical pathway."""
    quantum_learning_rate: float = 3e-2
    """Peak learning rate of the quantum pathway; of `down`, divided by the hidden size."""
    alpha_learning_rate: float = 1.0
    """Peak learning rate of alpha, by exponentiated gradient."""
    warmup_steps: int = 5
    """Steps over which the learning rates rise from zero; they fall linearly afterwards."""
    weight_decay: float = 0.01
    """AdamW's weight decay, on the matrices of the backbone and the classical pathway."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm, each part of the student by itself."""
    classical_loss_weight: float = 0.5
    """Weight of the classical pathway's own loss in the objective."""
    quantum_loss_weight: float = 0.5
    """Weight of the quantum pathway's own loss in the objective."""
    distill_top_logprobs: int = 0
    """Teacher's most likely tokens to learn from at each answer token; 0: from its text alone.
    Answers are asked for anew with them, in replies about 100 bytes longer for each of them at
    each token."""
    distill_loss: Literal["kl", "uld"] = "kl"
    """How to learn from them. `kl`: T^2 KL(teacher, student), from a teacher of the student's
    vocabulary; `uld`: distance of the probabilities by rank, from one of any vocabulary."""
    distill_weight: float = 1.0
    """Weight of that in the objective."""
    distill_temperature: float = 1.0
    """T: teacher's and student's probabilities are taken to the power of 1/T, those of all other
    tokens together."""

    perplexity_weight: float = 0.7
    """Weight of the student's likelihood of an answer in its reward."""
    quantum_weight: float = 0.3
    """Weight of the quantum pathway's contribution to an answer in its reward."""

    steps_per_eval: int = 10
    """Held-out evaluation every so many steps, besides the first and last."""
    eval_prompts: int = 24
    """Held-out prompts, one answer each."""
    eval_split: Literal["validation", "test"] = "test"
    """Held-out part that is evaluated; tune on validation only."""
    teacher_top_logprobs: int = 20
    """Teacher's most likely tokens to ask for on held-out answers, for eval/kl_to_teacher."""

    steps_per_checkpoint: int = 10
    """Checkpoint every so many steps, besides the last: what a run that is killed repeats."""
    checkpoints_kept: int = 2
    """Checkpoints that stay, the last ones; should one be damaged, the one before it is used."""

    use_wandb: bool = True
    """Log to Weights & Biases as well; offline where no key is found."""
    wandb_name: str | None = None
    """Name of the run on Weights & Biases. Default: the run directory's name."""
    wandb_project: str = "atropos-environments_hack0_env_quant"
    """Project on Weights & Biases."""
    data_path_to_save_groups: str | None = None
    """Scored groups, as Atropos jsonl. Default: groups.jsonl in the run directory."""

    def __post_init__(self) -> None:
        flag = "--env."
        for name, low, high in _INTEGER_RANGES:
            _check_range(flag, name, getattr(self, name), low=low, high=high)
        for name in _WEIGHTS:
            _check_range(flag, name, getattr(self, name), low=0)
        if self.distill_top_logprobs and not self.teacher_top_logprobs:
            raise UsageError(
                f"--env.teacher_top_logprobs 0: must be at least 1 with --env.distill_top_logprobs "
                f"{self.distill_top_logprobs}; the held-out answers show whether the teacher's "
                "log-probabilities can be learned from"
            )
        if self.distill_loss == "uld" and not self.distill_top_logprobs:
            raise UsageError(
                "--env.distill_loss uld: needs --env.distill_top_logprobs of at least 1"
            )
        for name in _LEARNING_RATES:
            value = getattr(self, name)
            if value is not None:
                _check_range(flag, name, value, low=0, high=10)
        _check_range(flag, "temperature", self.temperature, low=0, high=10)
        temperature = self.distill_temperature
        _check_range(flag, "distill_temperature", temperature, low=0, high=100, low_included=False)
        _check_range(flag, "max_grad_norm", self.max_grad_norm, low=0, low_included=False)
        if self.warmup_steps > self.total_steps:
            raise UsageError(
                f"--env.warmup_steps {self.warmup_steps}: must be at most --env.total_steps, "
                f"which is {self.total_steps}"
            )
        for name in ("run_dir", "data_path_to_save_groups", "wandb_name"):
            if getattr(self, name) == "":
                raise UsageError(f"--env.{name} '': must not be empty")
        if self.engine == "dense" and (self.reupload or self.n_qubits > MAX_DENSE_QUBITS):
            raise UsageError(
                f"--env.engine dense: is for at most {MAX_DENSE_QUBITS} qubits without "
                "--env.reupload; use auto or statevector"
            )
        self.dropped_layers()

    def backbone_learning_rate(self) -> float:
        """Peak learning rate of the backbone's trainable parameters."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 5e-5 if self.train_backbone == "full" else 2e-3

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
                f"--env.drop_layers {named!r}: must be auto, none, or first-last such as 11-20"
            )
        return range(int(first), int(last) + 1)


_INTEGER_RANGES = (
    ("total_steps", 1, 1_000_000),
    ("group_size", 1, 128),
    ("max_token_length", 2, 4096),
    ("seed", 0, 2**31 - 1),
    ("lora_rank", 1, 1024),
    ("n_qubits", 1, MAX_QUBITS),
    ("n_layers", 1, 100),
    ("warmup_steps", 0, 1_000_000),
    ("steps_per_eval", 1, 1_000_000),
    ("eval_prompts", 1, 1000),
    ("steps_per_checkpoint", 1, 1_000_000),
    ("checkpoints_kept", 1, 1000),
    ("teacher_top_logprobs", 0, 1000),
    ("distill_top_logprobs", 0, 1000),
)
_WEIGHTS = (
    "perplexity_weight",
    "quantum_weight",
    "classical_loss_weight",
    "quantum_loss_weight",
    "distill_weight",
    "weight_decay",
)
_LEARNING_RATES = (
    "learning_rate",
    "head_learning_rate",
    "quantum_learning_rate",
    "alpha_learning_rate",
)


def _check_range(
    prefix: str,
    name: str,
    value: float,
    *,
    low: float,
    high: float = math.inf,
    low_included: bool = True,
) -> None:
    above = value >= low if low_included else value > low
    if above and value <= high and math.isfinite(value):
        return
    if high == math.inf:
        allowed = f"{'at least' if low_included else 'greater than'} {low:g}"
    else:
        allowed = f"from {low:g} to {high:,.15g}" if low_included else f"above {low:g}, to {high:g}"
    raise UsageError(f"{prefix}{name} {value}: must be {allowed}")


def config_hash(config: RunConfig | ServerConfig) -> str:
    """First 12 hex digits of the SHA-256 of the configuration's canonical JSON."""
    text = json.dumps(asdict(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
