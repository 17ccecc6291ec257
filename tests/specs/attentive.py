"""References for the Transformer specs: models of `transformers` or torch.nn with the same sizes.

The option `eager` makes `transformers` compute attention from its formula; specs call PyTorch's attention function.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from tests.specs.named import Reference

EAGER = {"attn_implementation": "eager"}


def sizes(width: int, depth: int, heads: int) -> dict[str, Any]:
    """Return sizes under the names that most configurations of `transformers` use."""
    return {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
    }


def bert_model(vocab: int = 30_522, width: int = 768, depth: int = 12, heads: int = 12) -> BertModel:
    return BertModel(BertConfig(vocab_size=vocab, **sizes(width, depth, heads), **EAGER))


def bert(**values: int) -> Reference:
    def call(model: nn.Module, tokens: Tensor, segments: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        given = model(tokens, token_type_ids=segments, attention_mask=mask.long())
        return given.last_hidden_state, given.pooler_output

    return Reference(bert_model(**values), call)


def minilm(**values: int) -> Reference:
    return Reference(bert_model(**values), sentence_embedding)


def sentence_embedding(model: nn.Module, tokens: Tensor, mask: Tensor) -> Tensor:
    """Compute the normalized mean of the word vectors, as the page of all-MiniLM-L6-v2 describes."""
    hidden = model(tokens, attention_mask=mask.long()).last_hidden_state
    share = mask[:, :, None].float()
    return nn.functional.normalize((hidden * share).sum(1) / share.sum(1), dim=1)


def gpt2(vocab: int, width: int, depth: int, heads: int) -> Reference:
    config = GPT2Config(
        vocab_size=vocab, n_embd=width, n_layer=depth, n_head=heads, bos_token_id=0, eos_token_id=0, **EAGER
    )
    return Reference(GPT2LMHeadModel(config), lambda model, tokens: model(tokens).logits)


def llama(vocab: int, width: int, depth: int, heads: int, kv_heads: int, hidden: int, base: int) -> Reference:
    config = LlamaConfig(
        vocab_size=vocab,
        **{**sizes(width, depth, heads), "intermediate_size": hidden},
        num_key_value_heads=kv_heads,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": float(base)},
        **EAGER,
    )
    return Reference(LlamaForCausalLM(config), lambda model, tokens: model(tokens).logits)


def vit(width: int, depth: int, heads: int, size: int, patch: int, classes: int) -> Reference:
    config = ViTConfig(**sizes(width, depth, heads), image_size=size, patch_size=patch, num_labels=classes, **EAGER)
    return Reference(ViTForImageClassification(config), lambda model, image: model(image).logits)


def clip(vocab: int, size: int, patch: int, shared: int, **towers: int) -> Reference:
    text, image = (
        sizes(*(towers[f"{tower}_{name}"] for name in ("width", "depth", "heads"))) for tower in ("text", "image")
    )
    config = CLIPConfig(
        text_config={"vocab_size": vocab, "bos_token_id": 0, "eos_token_id": vocab - 1, **text},
        vision_config={"image_size": size, "patch_size": patch, **image},
        projection_dim=shared,
        **EAGER,
    )

    def call(model: nn.Module, image: Tensor, tokens: Tensor) -> tuple[Tensor, ...]:
        given = model(tokens, image)
        return given.image_embeds, given.text_embeds, given.logits_per_image

    return Reference(CLIPModel(config), call)


def whisper(vocab: int, width: int, depth: int, heads: int, mels: int, frames: int) -> Reference:
    stacks = {
        f"{stack}_{name}": value
        for stack in ("encoder", "decoder")
        for name, value in (("layers", depth), ("attention_heads", heads), ("ffn_dim", 4 * width))
    }
    tokens = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 0)
    config = WhisperConfig(
        vocab_size=vocab,
        d_model=width,
        num_mel_bins=mels,
        max_source_positions=frames // 2,
        **stacks,
        **tokens,
        **EAGER,
    )

    def call(model: nn.Module, sound: Tensor, tokens: Tensor) -> Tensor:
        return model(sound, decoder_input_ids=tokens).logits

    return Reference(WhisperForConditionalGeneration(config), call)


def resnet(layer: str, width: int, depths: tuple[int, ...], classes: int) -> Reference:
    """Build a ResNet; `layer` is `basic` or `bottleneck`."""
    expansion = {"basic": 1, "bottleneck": 4}[layer]
    config = ResNetConfig(
        embedding_size=width,
        hidden_sizes=[expansion * width * 2**stage for stage in range(4)],
        depths=list(depths),
        layer_type=layer,
        num_labels=classes,
    )
    return Reference(ResNetForImageClassification(config), lambda model, image: model(image).logits)


class Translator(nn.Module):
    """Transformer of Vaswani et al. 2017, made of the layers of torch.nn.

    Unlike `nn.Transformer`, it has embeddings and positions, and no normalization after the last layer of a stack.
    """

    def __init__(self, vocab: int, width: int, depth: int, heads: int, hidden: int):
        super().__init__()
        layer = {"d_model": width, "nhead": heads, "dim_feedforward": hidden, "batch_first": True}
        self.words = nn.Embedding(vocab, width)
        self.transformer = nn.Transformer(
            width,
            heads,
            batch_first=True,
            custom_encoder=nn.TransformerEncoder(
                nn.TransformerEncoderLayer(**layer), depth, enable_nested_tensor=False
            ),
            custom_decoder=nn.TransformerDecoder(nn.TransformerDecoderLayer(**layer), depth),
        )

    def forward(self, source: Tensor, mask: Tensor, target: Tensor) -> Tensor:
        length = target.shape[1]
        decoded = self.transformer(
            self.embed(source),
            self.embed(target),
            tgt_mask=torch.ones(length, length).triu(1).bool(),  # True means masked in torch.nn
            src_key_padding_mask=~mask,
            memory_key_padding_mask=~mask,
        )
        return decoded @ self.words.weight.T

    def embed(self, tokens: Tensor) -> Tensor:
        width = self.words.embedding_dim
        x = self.words(tokens) * math.sqrt(width)
        for place in range(tokens.shape[1]):
            for i in range(width // 2):
                angle = place / 10_000 ** (2 * i / width)
                x[:, place, 2 * i] += math.sin(angle)
                x[:, place, 2 * i + 1] += math.cos(angle)
        return x


def transformer(**values: int) -> Reference:
    return Reference(Translator(**values), lambda model, *inputs: model(*inputs))


Build = Callable[..., Reference]
