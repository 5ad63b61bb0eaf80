"""The text of a study: units in three parts, each with one answer or one document.

    corpus = gather(plan, announce)
    corpus.write(file)

Prompts are assigned to parts by the SHA-256 of their texts and the plan's `text_seed`: the units
with the smallest hashes are held out, the next ones are for validation. Documents stay in the order
of their file, the first for training and the last held out, since neighbours may be of one work. A
unit whose prompt, answer or document, as far as it is used, nearly repeats one that was gathered
before (`text.duplicates`) is left out, so no part repeats another.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from quantum_hybrid.durable import write_bytes
from quantum_hybrid.errors import CheckpointError, TeacherSilent, UsageError
from quantum_hybrid.processes.cores import usable_cores
from quantum_hybrid.shown import shown
from quantum_hybrid.study.plan import BUILT_IN, WRITTEN, StudyPlan
from quantum_hybrid.teacher import (
    AnswerCache,
    EmbeddedTeacher,
    PromptWriter,
    TeacherClient,
    answers_path,
)
from quantum_hybrid.text import (
    Answer,
    Encoder,
    Example,
    NearDuplicates,
    Prompt,
    PromptSelection,
    Sampling,
    built_in_prompts,
    read_prompts_file,
)
from quantum_hybrid.text.selection import left_out_in_words
from quantum_hybrid.text.utf8_file import read_utf8

Part = Literal["training", "validation", "held-out"]
PARTS: tuple[Part, ...] = get_args(Part)
TEMPERATURE = 0.7
SEED_STRIDE = 100_003
"""Distance between the sampling seeds of answers of consecutive text seeds."""
FEWEST_WORDS, FEWEST_CHARACTERS = 5, 40
"""Documents below both are headings. Some scripts put no space between words."""
MOST_TEXT_BYTES = 2**28
HEADING = f"fewer than {FEWEST_WORDS} words and {FEWEST_CHARACTERS} characters"
NOT_NEEDED = "not needed by the plan"
DOCUMENT = "document"
CHARACTERS_OF_TOKEN = 4
"""In English, about; near-duplicates are sought in what a unit's tokens may hold."""
UNITS_PER_LINE = 100
"""Number of units between two lines of progress."""
_CUT = re.compile(r"\n\s*\n")


@dataclass(frozen=True)
class Unit:
    """One prompt with its answer, or one document."""

    name: str
    prompt: str | None
    """None for a document."""
    text: str
    """The answer, or the document."""
    finish_reason: str
    """`stop` if the answer has an end; a document has none."""

    def example(self, encoder: Encoder, longest: int) -> Example:
        """As tokens and mask; of a document at most `longest` tokens."""
        if self.prompt is None:
            ids = encoder.tokenizer(self.text, add_special_tokens=False)["input_ids"]
            return Example.of_text(list(ids)[:longest])
        answer = Answer(self.name, 0, self.text, self.finish_reason, model="")
        return encoder.example(Prompt(self.name, "", self.prompt), answer)


@dataclass(frozen=True)
class Corpus:
    """The units of all parts, and where they come from."""

    source: str
    """Where the text comes from, in words."""
    parts: Mapping[Part, list[Unit]]
    left_out: dict[str, int]
    """Why texts were left out -> how many."""

    @property
    def unit(self) -> str:
        """What is drawn independently."""
        return "document" if self.parts["training"][0].prompt is None else "prompt"

    def write(self, file: Path) -> None:
        """Write the corpus as one JSON file, atomically."""
        parts = {part: [asdict(unit) for unit in units] for part, units in self.parts.items()}
        content = {"source": self.source, "left_out": self.left_out, "parts": parts}
        write_bytes(file, (json.dumps(content, indent=1) + "\n").encode("ascii"))

    @classmethod
    def read(cls, file: Path) -> Corpus:
        """Inverse of `write`. Raises `CheckpointError` for other content."""
        try:
            content = json.loads(file.read_bytes())
            parts: dict[Part, list[Unit]] = {
                part: [Unit(**unit) for unit in content["parts"][part]] for part in PARTS
            }
            return cls(content["source"], parts, content["left_out"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{file}: not the text of a study") from error

    @property
    def held_out_digests(self) -> list[str]:
        """SHA-256 of each held-out unit: what is looked at when the held-out part is opened."""
        return [_hash(unit.prompt, unit.text).hex() for unit in self.parts["held-out"]]


def gather(plan: StudyPlan, announce: Callable[[str], None]) -> Corpus:
    """The text that the plan asks for.

    Raises `UsageError` for a file with fewer units than the plan wants, and a `TeacherError` if the
    teacher fails; answers that have arrived stay in the cache.
    """
    collection = _Collection(plan)
    if plan.text is not None:
        source = f"documents of {shown(plan.text)}"
        collection.take_documents(_documents(plan.text), plan.text_seed)
    else:
        source = "answers of the embedded teacher to prompts "
        source += {WRITTEN: "that it wrote itself", BUILT_IN: "of this project"}.get(
            plan.prompts, f"of {shown(plan.prompts)}"
        )
        asyncio.run(_Answers(plan, collection, announce).gather())
    if not collection.is_full:
        raise UsageError(
            f"{source}: {len(collection.units)} usable units, and the plan wants {plan.n_units} "
            f"({left_out_in_words(collection.left_out)})"
        )
    return Corpus(source, _in_parts(collection.units, plan), dict(collection.left_out))


class _Collection:
    """Units without near-duplicates, up to a number."""

    def __init__(self, plan: StudyPlan) -> None:
        self.units: list[Unit] = []
        self.left_out: Counter[str] = Counter()
        self._n_wanted = plan.n_units
        self._n_characters = plan.longest_unit * CHARACTERS_OF_TOKEN
        self._seen = NearDuplicates()

    @property
    def n_missing(self) -> int:
        return self._n_wanted - len(self.units)

    @property
    def is_full(self) -> bool:
        return self.n_missing == 0

    def take(self, unit: Unit) -> None:
        """Keep a unit, unless its text, as far as it is used, nearly repeats a kept one."""
        if self._seen.add(unit.text[: self._n_characters]) is None:
            self.units.append(unit)
        else:
            self.left_out["text nearly repeated"] += 1

    def take_documents(self, documents: Sequence[str], seed: int) -> None:
        """Take documents in the random order of the seed, so that they come from the whole file."""
        numbered = sorted(enumerate(documents, 1), key=lambda pair: _hash(seed, pair[1]))
        for number, text in numbered:
            if self.is_full:
                self.left_out[NOT_NEEDED] += 1
            elif len(text.split()) < FEWEST_WORDS and len(text) < FEWEST_CHARACTERS:
                self.left_out[HEADING] += 1
            else:
                self.take(Unit(f"{DOCUMENT} {number}", None, text, "length"))


class _Answers:
    """Prompts and the embedded teacher's answers to them, until the collection is full."""

    def __init__(
        self, plan: StudyPlan, collection: _Collection, announce: Callable[[str], None]
    ) -> None:
        self._plan, self._collection, self._announce = plan, collection, announce
        self._sampling = Sampling(plan.longest_unit, TEMPERATURE, plan.text_seed * SEED_STRIDE)

    async def gather(self) -> None:
        async with AsyncExitStack() as stack:
            cache = stack.enter_context(AnswerCache(answers_path()))
            embedded = stack.enter_context(
                EmbeddedTeacher(usable_cores(), longest_answer=self._plan.longest_unit)
            )
            client = TeacherClient(embedded.server, cache)
            stack.push_async_callback(client.close)
            writer = PromptWriter(embedded.server, cache, self._plan.text_seed)
            prompts = await stack.enter_async_context(aclosing(self._prompts(writer)))
            while not self._collection.is_full:
                # A few may come back without text, or repeat another.
                wanted = self._collection.n_missing
                chosen = await self._next(prompts, wanted)
                await self._ask(client, chosen)
                if len(chosen) < wanted:
                    return
            if self._plan.prompts != WRITTEN:
                self._collection.left_out[NOT_NEEDED] += len([1 async for _ in prompts])

    async def _next(self, prompts: AsyncIterator[Prompt], count: int) -> list[Prompt]:
        chosen: list[Prompt] = []
        while len(chosen) < count:
            try:
                chosen.append(await anext(prompts))
            except StopAsyncIteration:
                break
            if self._plan.prompts == WRITTEN and len(chosen) % UNITS_PER_LINE == 0:
                self._announce(f"text      {len(chosen)} of {count} prompts written")
        return chosen

    async def _prompts(self, writer: PromptWriter) -> AsyncGenerator[Prompt, None]:
        """The prompts that the plan names, in order."""
        if self._plan.prompts == WRITTEN:
            selection = PromptSelection()
            try:
                async with aclosing(writer.prompts(selection)) as prompts:
                    async for prompt in prompts:
                        yield prompt
            finally:
                self._leave_out(selection.left_out)
            return
        for prompt in self._named_prompts():
            yield prompt

    def _named_prompts(self) -> list[Prompt]:
        """In the random order of the text's seed."""
        if self._plan.prompts == BUILT_IN:
            prompts = built_in_prompts().prompts
        else:
            file = read_prompts_file(self._plan.prompts)
            prompts = file.prompts.prompts
            self._leave_out({"repeated": file.n_repeated, "near-duplicate": file.n_near_duplicates})
        return sorted(prompts, key=lambda prompt: _hash(self._plan.text_seed, prompt.text))

    def _leave_out(self, prompts: Mapping[str, int]) -> None:
        """Count prompts that are not asked, by reason."""
        for reason, n in prompts.items():
            if n:
                self._collection.left_out[f"prompt, {reason}"] += n

    async def _ask(self, client: TeacherClient, prompts: Sequence[Prompt]) -> None:
        """Ask for one answer to each prompt, and take them in the order of the prompts."""
        tasks = [
            asyncio.create_task(client.answers(prompt, 0, 1, self._sampling)) for prompt in prompts
        ]
        try:
            for number, (prompt, task) in enumerate(zip(prompts, tasks, strict=True), start=1):
                try:
                    (answer,) = await task
                except TeacherSilent:
                    self._collection.left_out["answer without text"] += 1
                    continue
                self._collection.take(
                    Unit(prompt.id, prompt.text, answer.text, answer.finish_reason)
                )
                if number % UNITS_PER_LINE == 0:
                    self._announce(f"text      {number} of {len(prompts)} answers")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _documents(named: str) -> list[str]:
    """The documents of a text file."""
    text = read_utf8(named, f"text {named!r}", MOST_TEXT_BYTES).text
    return [document.strip() for document in _CUT.split(text) if document.strip()]


def _in_parts(units: Sequence[Unit], plan: StudyPlan) -> dict[Part, list[Unit]]:
    """The parts, each in the order of the hashes, which is random."""

    def by_hash(unit: Unit) -> bytes:
        return _hash(plan.text_seed, unit.prompt, unit.text)

    def from_the_end(unit: Unit) -> int:
        return -int(unit.name.removeprefix(DOCUMENT))

    ordered = sorted(units, key=by_hash if plan.text is None else from_the_end)
    cuts = (plan.held_out, plan.held_out + plan.validation)
    return {
        "training": sorted(ordered[cuts[1] :], key=by_hash),
        "validation": sorted(ordered[cuts[0] : cuts[1]], key=by_hash),
        "held-out": sorted(ordered[: cuts[0]], key=by_hash),
    }


def _hash(*content: int | str | None) -> bytes:
    """SHA-256: an order by it is random, and depends on nothing else."""
    return hashlib.sha256(json.dumps(content).encode("ascii")).digest()
