"""Shared fixtures. Annotated shapes and dtypes are checked while the tests run, and only then."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from quantum_hybrid.student import HybridForCausalLM
    from quantum_hybrid.text.encoder import Example
    from quantum_hybrid.training import Learner

# Small matrices on few cores: a second thread costs more than it brings.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Nothing here may ask a hub for a model.
os.environ["HF_HUB_OFFLINE"] = "1"

from jaxtyping import install_import_hook

SOURCES = Path(__file__).parents[1] / "src/quantum_hybrid"
CHECKED = ("circuit", "distillation", "evaluation", "student", "study", "training")
"""Rooms whose functions take tensors."""


def _is_checked(file: Path) -> bool:
    """Whether the module annotates shapes, and holds no function that Numba compiles, which cannot
    be type-checked.
    """
    source = file.read_text(encoding="utf-8")
    is_compiled = re.search("import numba|from numba|@compiled", source)
    return "from jaxtyping import" in source and not is_compiled


MODULES = [
    ".".join(file.relative_to(SOURCES).with_suffix("").parts)
    for room in CHECKED
    for file in sorted((SOURCES / room).rglob("[!_]*.py"))
    if _is_checked(file)
]
install_import_hook([f"quantum_hybrid.{name}" for name in MODULES], "beartype.beartype")

sys.path.insert(0, str(Path(__file__).parent))  # for tiny.py and circuits.py, which are no tests

OF_THE_SHELL = {
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
    "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE",
}  # fmt: skip
"""What a launcher, or who wants colours, may have set."""


def pytest_configure() -> None:
    """Remove the shell's environment variables that affect a run, above all API keys."""
    for name in [*os.environ]:
        if name in OF_THE_SHELL or name.startswith(("ATROPOS_", "WANDB_")):
            del os.environ[name]
    os.environ |= {"WANDB_MODE": "offline", "COLUMNS": "80"}


@pytest.fixture(scope="session", autouse=True)
def no_keys() -> Iterator[None]:
    """No API key of the user may reach a test's server."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if "API_KEY" in name]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of answers for the tests; the converted model, slow to make, is the user's.

    If the user's home cannot be written, the model is converted again.
    """
    from quantum_hybrid.paths import cache_directory

    models = cache_directory() / "models"
    try:
        models.mkdir(parents=True, exist_ok=True)
    except OSError:
        models = tmp_path_factory.mktemp("models")
    folder = tmp_path_factory.mktemp("cache")
    (folder / "models").symlink_to(models)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUANTUM_HYBRID_CACHE", str(folder))
        yield


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a real, tiny base model with the embedded model's tokenizer."""
    from tiny import save_tiny_llama

    return save_tiny_llama(tmp_path_factory.mktemp("base") / "tiny-llama")


@pytest.fixture(scope="session")
def small_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the same model with a vocabulary of 512 tokens, which trains fastest."""
    from tiny import save_small_llama

    return save_small_llama(tmp_path_factory.mktemp("base") / "small-llama")


@pytest.fixture(scope="session")
def family_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a tiny model of the named Hugging Face family."""
    from tiny import save_family

    base = tmp_path_factory.mktemp("families")
    return functools.cache(lambda model_type: save_family(base / model_type, model_type))


@pytest.fixture(scope="session")
def bpe_tokenizer() -> Callable[[int], PreTrainedTokenizerBase]:
    """Trains a byte-level BPE tokenizer of a given size."""
    from tiny import byte_level_tokenizer

    return byte_level_tokenizer


@pytest.fixture(scope="session")
def embedded_tokenizer() -> PreTrainedTokenizerBase:
    """The tokenizer of the embedded model, as converted."""
    from transformers import AutoTokenizer

    from quantum_hybrid.backbone import prepare_embedded

    return AutoTokenizer.from_pretrained(prepare_embedded())


@pytest.fixture(scope="session")
def make_student(small_llama: Path) -> Callable[..., HybridForCausalLM]:
    """Builds a small student with given circuits and random weights of its own."""
    import torch

    from quantum_hybrid.backbone import load_base_model
    from quantum_hybrid.student import HybridForCausalLM

    def make(**circuits: Any) -> HybridForCausalLM:
        base = load_base_model(str(small_llama), str(small_llama))
        student = HybridForCausalLM.from_base(base, **circuits)
        generator = torch.Generator().manual_seed(1)
        own = [student.head.classical.transform, student.head.quantum]
        with torch.no_grad():
            for parameter in (p for module in own for p in module.parameters()):
                parameter.normal_(0, 0.3, generator=generator)
            student.head.quantum.up.weight.normal_(generator=generator)
            student.head.alpha_logit.fill_(0.4)
        return student

    return make


@pytest.fixture(scope="session")
def examples(small_llama: Path) -> list[Example]:
    """Four conversations with answers of different lengths, in the small vocabulary."""
    from transformers import AutoTokenizer

    from quantum_hybrid.text.encoder import Encoder
    from quantum_hybrid.text.prompts import built_in_prompts
    from quantum_hybrid.text.records import Answer

    encoder = Encoder(AutoTokenizer.from_pretrained(small_llama))
    texts = ("Six minutes.", "Yes, with a little salt.", "Warm water", "No. Try it again tomorrow!")
    answers = [Answer("p", i, text, "stop", "m") for i, text in enumerate(texts)]
    pairs = zip(built_in_prompts().in_split("train", 0), answers, strict=False)
    return [encoder.example(prompt, answer) for prompt, answer in pairs]


@pytest.fixture(scope="session")
def new_learner(small_llama: Path) -> Callable[..., Learner]:
    """Builds a quick learner for given `RunConfig` values: 4 layers, 512 tokens."""
    from quantum_hybrid.config import RunConfig
    from quantum_hybrid.text.prompts import built_in_prompts
    from quantum_hybrid.training import Learner

    def build(*, resumes: bool = False, **values: Any) -> Learner:
        given = {"base_model_name": str(small_llama), "total_steps": 20, "lora_rank": 4} | values
        config = RunConfig(**given)
        return Learner(config, built_in_prompts().calibration(config.seed), resumes=resumes)

    return build


@pytest.fixture(scope="session")
def groups(new_learner: Callable[..., Learner]) -> list[list[Example]]:
    """Four groups of two answers, in the order of a schedule."""
    from quantum_hybrid.text.prompts import built_in_prompts
    from quantum_hybrid.text.records import Answer

    encoder = new_learner(train_backbone="none").encoder
    texts = ("Yes, of course.", "No! Not before Monday.", "Six minutes", "It depends on the egg.")
    return [
        encoder.examples(
            prompt,
            [Answer(prompt.id, i, texts[(n + i) % 4], "stop", "m") for i in range(2)],
        )
        for n, prompt in enumerate(built_in_prompts().in_split("train", 0)[:4])
    ]
