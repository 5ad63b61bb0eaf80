"""The student as a Hugging Face model with save_pretrained, from_pretrained and generate.

    HybridForCausalLM.from_pretrained("runs/.../student")

Token ids -> backbone -> hidden states -> hybrid head -> logits of the hybrid predictor.
"""

from __future__ import annotations

from typing import Any, TypedDict, Unpack, cast

from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    GenerationMixin,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutputWithPast

from quantum_hybrid.backbone import BaseModel, FeatureStore, detach_final_norm
from quantum_hybrid.student.head import ClassicalHead, HybridHead, HybridLogits, QuantumHead


class Circuits(TypedDict, total=False):
    """The fields of `HybridConfig` that describe the head."""

    n_qubits: int
    n_layers: int
    entangler: str
    reupload: bool
    engine: str
    mixing: str


class HybridConfig(PretrainedConfig):
    """A student's architecture: its backbone's configuration and its circuits."""

    model_type = "quantum_hybrid"

    def __init__(
        self,
        backbone: dict[str, Any] | None = None,
        n_qubits: int = 8,
        n_layers: int = 3,
        entangler: str = "ring",
        reupload: bool = False,
        engine: str = "auto",
        mixing: str = "logits",
        decoder_bias: bool = False,
        **kwargs: Any,
    ) -> None:
        self.backbone = backbone or {}
        self.n_qubits = n_qubits
        self.n_layers = n_layers
        self.entangler = entangler
        self.reupload = reupload
        self.engine = engine
        self.mixing = mixing
        self.decoder_bias = decoder_bias
        if self.backbone:
            # `generate` reads these names. `family` maps them to the names of its own architecture.
            family = AutoConfig.for_model(**self.backbone)
            for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"):
                setattr(self, name, getattr(family, name))
        kwargs.setdefault("tie_word_embeddings", False)
        super().__init__(**kwargs)


class HybridForCausalLM(PreTrainedModel, GenerationMixin):
    """A causal language model whose next-token head is a `HybridHead`."""

    config_class = HybridConfig
    base_model_prefix = "backbone"
    config: HybridConfig
    features: FeatureStore | None = None
    """Store of hidden states on disk; None unless the backbone is frozen."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__(config)
        backbone_config = AutoConfig.for_model(**config.backbone)
        body = AutoModel.from_config(backbone_config)
        norm = detach_final_norm(body)
        d_model = body.get_input_embeddings().weight.shape[1]
        vocabulary = backbone_config.vocab_size
        self.backbone: nn.Module = body
        self.head = HybridHead(
            ClassicalHead(norm, d_model, vocabulary, config.decoder_bias),
            QuantumHead(
                d_model,
                vocabulary,
                config.n_qubits,
                config.n_layers,
                entangler=config.entangler,
                reupload=config.reupload,
                engine=config.engine,
            ),
            "probability" if config.mixing == "probability" else "logits",
        )
        self.post_init()

    @classmethod
    def from_base(cls, base: BaseModel, **circuits: Unpack[Circuits]) -> HybridForCausalLM:
        """A student with a base model's weights. Its quantum pathway is not initialised yet.

        Omitted `circuits` take the defaults of `HybridConfig`.
        """
        backbone = base.body.config.to_dict()
        backbone.pop("_name_or_path", None)  # It may be a path of this machine.
        config = HybridConfig(
            backbone=backbone,
            decoder_bias=base.decoder.bias is not None,
            bos_token_id=base.tokenizer.bos_token_id,
            eos_token_id=base.tokenizer.eos_token_id,
            pad_token_id=base.tokenizer.pad_token_id,
            **circuits,
        )
        student = cls(config)
        student.backbone.load_state_dict(base.body.state_dict())
        classical = student.head.classical
        classical.norm.load_state_dict(base.norm.state_dict())
        classical.log_scale.data.zero_()
        classical.decoder.load_state_dict(base.decoder.state_dict())
        return student.eval()

    def get_input_embeddings(self) -> nn.Module:
        """The backbone's token embedding."""
        return cast(PreTrainedModel, self.backbone).get_input_embeddings()

    def hidden_states(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Hidden states before the final norm, of shape (batch, positions, d_model)."""
        output = self.backbone(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
        return output.last_hidden_state

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        labels: Tensor | None = None,
        num_items_in_batch: int | Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Hybrid logits of the last `logits_to_keep` positions; 0 keeps all, as in Hugging Face.

        With `labels`, of the shape of `input_ids`, `loss` is the cross-entropy of the hybrid
        predictor in nats: position t predicts label t + 1, and a label of -100 does not count. It
        is the mean over the labels, or their sum over `num_items_in_batch`. It needs the logits of
        all positions.
        """
        output = self.backbone(
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            use_cache=use_cache,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits: HybridLogits = self.head(output.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits.hybrid,
                labels=labels,
                vocab_size=self.config.vocab_size,
                num_items_in_batch=num_items_in_batch,
            )
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits.hybrid,  # type: ignore[arg-type]
            past_key_values=output.past_key_values,
        )


AutoConfig.register("quantum_hybrid", HybridConfig)
