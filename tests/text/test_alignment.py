"""Spans of two tokenisations cover the same bytes, without gaps, and are minimal."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from quantum_hybrid.text.alignment import Span, common_spans, decoded_ends, spelled_ends
from quantum_hybrid.text.prompts import built_in_prompts

TEXTS = [
    "Boil it for six minutes.",
    " A dog, an emoji 🙂🙃, naïve résumés; 北京市.\n\n\tEnd  ",
    "�, which is U+FFFD, twice: ��.",
    "x",
]


def pieces(content: bytes, cuts: set[int]) -> list[bytes]:
    places = [0, *sorted(cut for cut in cuts if 0 < cut < len(content)), len(content)]
    return [content[a:b] for a, b in pairwise(places)]


def ends_of(tokens: list[bytes]) -> list[int]:
    return list(accumulate(map(len, tokens)))


texts = st.text(st.sampled_from("ab c\né🙂"), min_size=1, max_size=12)
cuts = st.sets(st.integers(1, 40), max_size=12)


@given(text=texts, ours=cuts, theirs=cuts, unknown=st.sets(st.integers(1, 40), max_size=3))
@example(text="ab", ours=set(), theirs={1}, unknown=set())
def test_spans_partition_both_sides_at_the_common_ends(text, ours, theirs, unknown) -> None:
    content = text.encode()
    tokens, others = pieces(content, ours), pieces(content, theirs)
    known = [end if end not in unknown else None for end in ends_of(tokens)]
    known[-1] = len(content)
    spans = common_spans(known, ends_of(others))
    assert [i for span in spans for i in span.ours] == list(range(len(tokens)))
    assert [i for span in spans for i in span.theirs] == list(range(len(others)))
    for span in spans:
        mine = b"".join(tokens[i] for i in span.ours)
        assert mine == b"".join(others[i] for i in span.theirs)
        assert mine
        inner = {known[i] for i in span.ours[:-1]} & {ends_of(others)[i] for i in span.theirs[:-1]}
        assert not inner  # it cannot be cut once more


@given(text=texts, ours=cuts, theirs=cuts, cut_off=st.integers(0, 12))
def test_what_has_no_known_end_is_in_no_span(text, ours, theirs, cut_off) -> None:
    content = text.encode()
    mine = ends_of(pieces(content, ours))
    others = ends_of(pieces(content, theirs))[:cut_off]
    spans = common_spans(mine, [*others, None, None])
    covered = mine[spans[-1].ours[-1]] if spans else 0
    assert covered == max(set(mine) & set(others), default=0)


def test_tokens_outside_the_text_are_in_no_span() -> None:
    spans = common_spans([0, 3, 5, None], [-2, 0, 2, 5, 5, None])
    assert spans == [Span(range(1, 3), range(2, 4))]


def byte_fallback_tokenizer() -> PreTrainedTokenizerBase:
    """Like Llama 2's: a space is ▁, one is prepended, unknown characters become bytes."""
    rare = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<unk>", *rare], show_progress=False
    )
    tokenizer.train_from_iterator([prompt.text for prompt in built_in_prompts().prompts], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def exact_ends(tokenizer: PreTrainedTokenizerBase, ids: list[int], text: str) -> list[int | None]:
    """Ends from the bytes of each token in the vocabulary; None within a character."""
    alphabet = {char: byte for byte, char in bytes_to_unicode().items()}
    tokens = []
    for name in tokenizer.convert_ids_to_tokens(ids):
        if name.startswith("<0x"):
            tokens.append(bytes([int(name[3:5], 16)]))
        elif all(char in alphabet for char in name) and "▁" not in name:
            tokens.append(bytes(alphabet[char] for char in name))
        else:
            tokens.append(name.replace("▁", " ").encode())
    content = text.encode()
    extra = len(b"".join(tokens)) - len(content)
    assert b"".join(tokens)[extra:] == content
    starts = {len(text[:i].encode()) for i in range(len(text) + 1)}
    return [end - extra if end - extra in starts else None for end in ends_of(tokens)]


@pytest.fixture(scope="module", params=["byte level", "embedded", "byte fallback"])
def tokenizer(request, bpe_tokenizer, embedded_tokenizer) -> PreTrainedTokenizerBase:
    if request.param == "byte fallback":
        return byte_fallback_tokenizer()
    return bpe_tokenizer(512) if request.param == "byte level" else embedded_tokenizer


def trained(tokenizer: Tokenizer, trainer: Any) -> PreTrainedTokenizerBase:
    tokenizer.train_from_iterator([prompt.text for prompt in built_in_prompts().prompts], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


def word_piece_tokenizer(*, lowercase: bool) -> PreTrainedTokenizerBase:
    """As BERT's: a space before each word, ## before what goes on with one."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=400, special_tokens=["[UNK]"], show_progress=False
    )
    return trained(tokenizer, trainer)


def metaspace_tokenizer() -> PreTrainedTokenizerBase:
    """As T5's: sentencepiece's unigrams, a space is ▁, and the first one is dropped."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=400, special_tokens=["[UNK]"], unk_token="[UNK]", show_progress=False
    )
    return trained(tokenizer, trainer)


def suffix_tokenizer() -> PreTrainedTokenizerBase:
    """As the first GPT's: </w> at a word's end, a space there unless the text ends with it."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]", end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.BPEDecoder()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["[UNK]"],
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    return trained(tokenizer, trainer)


OTHERS = {
    "word pieces": lambda: word_piece_tokenizer(lowercase=False),
    "word pieces in small letters": lambda: word_piece_tokenizer(lowercase=True),
    "metaspace": metaspace_tokenizer,
    "suffix": suffix_tokenizer,
}


@pytest.fixture(scope="module", params=["byte level", "embedded", "byte fallback", *OTHERS])
def any_tokenizer(request, bpe_tokenizer, embedded_tokenizer) -> PreTrainedTokenizerBase:
    if request.param in OTHERS:
        return OTHERS[request.param]()
    if request.param == "byte fallback":
        return byte_fallback_tokenizer()
    return bpe_tokenizer(300) if request.param == "byte level" else embedded_tokenizer


def ends_of_prefixes(tokenizer: Any, ids: list[int], text: str) -> list[int | None]:
    """The definition: what each prefix of the tokens decodes to, in order, from the text's end."""
    ends: list[int | None] = []
    for count in range(1, len(ids) + 1):
        begun = tokenizer.decode(ids[:count], clean_up_tokenization_spaces=False)
        ends.append(len(begun.encode()) if text.startswith(begun) else None)
    least = len(text.encode()) + 1
    for i in reversed(range(len(ends))):
        end = ends[i]
        if end is not None and end < least:
            least = end
        else:
            ends[i] = None
    return ends


CLAUSES = [
    "Boil it for six minutes. ", "don't ", "a b c d", " ", "  ", "\n\n", "\t", "12345", "x.",
    "?! ", "naïve résumé ", "北京市", "🙂🙃", "👩‍🚀", "e\u0301", "�", "���", "☕", "ÿ", "##ing",
    "</w>", "▁",
]  # fmt: skip
long_texts = st.lists(st.sampled_from(CLAUSES) | st.text(max_size=3), max_size=40).map("".join)


@settings(deadline=None)
@given(text=long_texts, at=st.integers(0, 200), other=st.sampled_from(["", "x", "�"]))
@example(text="北京市 ☕" * 40, at=500, other="")
@example(text="�" * 30, at=500, other="")
@example(text=" " * 100 + "x", at=500, other="")
@example(text="It is so, and it stays so. " * 20, at=100, other="x")
def test_ends_are_those_of_all_prefixes(any_tokenizer, text, at, other) -> None:
    """Also of a text that differs from the tokens' own from some place on."""
    ids = any_tokenizer(text, add_special_tokens=False)["input_ids"]
    for compared in {text, text[:at] + other + text[at + 1 :]}:
        expected = ends_of_prefixes(any_tokenizer, ids, compared)
        assert decoded_ends(any_tokenizer, ids, compared) == expected


class Forgetful:
    """Decodes letters, and less of them where there are many: what no window can tell."""

    def decode(self, ids: list[int], clean_up_tokenization_spaces: bool) -> str:
        assert not clean_up_tokenization_spaces
        return "".join(map(chr, ids)) if len(ids) < 50 else "".join(map(chr, ids[:-1]))


@pytest.mark.parametrize("n", [60, 100, 200])
def test_a_decoder_that_looks_at_the_whole_gives_what_it_decodes_to(n) -> None:
    text = "abcdefghij" * (n // 10)
    tokenizer: Any = Forgetful()
    ids = list(map(ord, text))
    assert decoded_ends(tokenizer, ids, text) == ends_of_prefixes(tokenizer, ids, text)


@pytest.mark.parametrize("text", ["It is so, and it stays so: 北京市. " * 60, "北京市" * 150])
def test_the_tokens_decoded_are_a_constant_for_each(any_tokenizer, text) -> None:
    """Also of words or characters without an end between them."""
    tokenizer = any_tokenizer
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    counted: list[int] = []

    class Counting:
        def decode(self, part: list[int], **options: Any) -> str:
            counted.append(len(part))
            return tokenizer.decode(part, **options)

    stand_in: Any = Counting()
    decoded_ends(stand_in, ids, text)
    assert sum(counted) < 40 * max(len(ids), 1)


@pytest.mark.parametrize("text", TEXTS)
def test_ends_by_decoding_are_those_of_the_vocabularys_bytes(tokenizer, text) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    got = decoded_ends(tokenizer, ids, text)
    assert got == exact_ends(tokenizer, ids, text)
    assert got[-1] == len(text.encode())


def test_a_text_that_does_not_come_back_has_no_ends_from_there_on(bpe_tokenizer) -> None:
    tokenizer = bpe_tokenizer(512)
    ids = tokenizer("Boil it, then wait", add_special_tokens=False)["input_ids"]
    ends = decoded_ends(tokenizer, ids, "Boil it; then wait")
    known = [end for end in ends if end is not None]
    assert known
    assert max(known) <= len("Boil it")
    assert ends[-1] is None


@pytest.mark.parametrize(
    ("tokens", "text", "ends"),
    [
        ([b"Boil", b" it"], "Boil it", [4, 7]),
        ([b"\n\n", b" Boil", b" it"], "Boil it", [-1, 4, 7]),
        ([b"Boil", b" it.\n", b"\n"], "Boil it.", [4, 8, None]),
        ([b"Boil", b" it", b"<|im_end|>"], "Boil it", [4, 7, None]),
        ([b"Boil", b" it", b""], "Boil it", [4, 7, None]),
        ([b"Boil", b" it<|im_end|>"], "Boil it", [4, None]),
        ([b"Boil", b" them", b" now"], "Boil it now", [4, None, None]),
        ([b"Boil", None, b" now"], "Boil it now", [4, None, None]),
        ([b"\xf0\x9f", b"\x99\x82", b"!"], "\U0001f642!", [2, 4, 5]),
        ([b"Boil"], "  Boil", [6]),
        ([None], "Boil", [None]),
        ([], "Boil", []),
    ],
)
def test_ends_by_spelling(tokens, text, ends) -> None:
    assert spelled_ends(tokens, text) == ends


@given(text=texts, cut=cuts, around=st.sampled_from(["", " ", "\n\n"]))
def test_white_space_that_a_server_drops_is_no_difference(text, cut, around) -> None:
    """The ends within the text are those of the tokens, for any tokenisation."""
    sent = around + text + around
    tokens = pieces(sent.encode(), cut)
    kept = sent.strip()
    if not kept:
        return
    begins = len(sent.encode()) - len(sent.lstrip().encode())
    exact = [end - begins for end in ends_of(tokens)]
    size, got = len(kept.encode()), spelled_ends(tokens, kept)
    last = next(i for i, end in enumerate(exact) if end >= size)
    assert got == [*exact[:last], size, *[None] * (len(tokens) - last - 1)]
