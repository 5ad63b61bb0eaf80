"""Spans of two tokenisations cover the same bytes, without gaps, and are minimal."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from quantum_hybrid.text.alignment import Span, common_spans, decoded_ends, spelled_ends
from quantum_hybrid.text.prompts import load_prompts

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
    tokenizer.train_from_iterator([prompt.text for prompt in load_prompts()], trainer)
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


@pytest.fixture(params=["byte level", "embedded", "byte fallback"])
def tokenizer(request, bpe_tokenizer, embedded_tokenizer) -> PreTrainedTokenizerBase:
    if request.param == "byte fallback":
        return byte_fallback_tokenizer()
    return bpe_tokenizer(512) if request.param == "byte level" else embedded_tokenizer


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
