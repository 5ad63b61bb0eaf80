"""The layout of vectors: what each processor gets, what one may ask for, and who is heard."""

import os
import re

import pytest

from quantum_hybrid.compiled import vectors
from quantum_hybrid.compiled.layout import (
    AVX2,
    AVX512,
    LAYOUTS,
    NEON,
    SSE,
    VARIABLE,
    chosen,
    suited,
)


@pytest.mark.parametrize(
    ("features", "machine", "layout"),
    [
        ({}, "x86_64", SSE),
        ({"avx2": False, "fma": True}, "AMD64", SSE),
        ({"avx2": True, "fma": False}, "x86_64", SSE),
        ({"avx2": True, "fma": True, "avx512f": False}, "x86_64", AVX2),
        ({"avx2": True, "fma": True, "avx512f": True}, "x86_64", AVX512),
        ({"neon": True}, "aarch64", NEON),
        ({"neon": True}, "arm64", NEON),
        ({"neon": True}, "ARM64", NEON),
    ],
)
def test_each_processor_gets_the_layout_of_its_registers(features, machine, layout):
    assert suited(features, machine) == layout


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_each_layout_can_be_asked_for(layout):
    assert chosen({VARIABLE: str(layout)}) == layout


def test_unset_and_empty_leave_it_to_the_processor():
    assert chosen({}) == chosen({VARIABLE: ""})
    assert chosen({}) in LAYOUTS


@pytest.mark.parametrize("name", ["17x3", "64", "64X4", " 64x4", "avx2"])
def test_what_does_not_exist_is_refused(name):
    message = f"QUANTUM_HYBRID_VECTORS={name} in the environment: must be one of 16x3, 16x4, 32x3, "
    with pytest.raises(ValueError, match=re.escape(message)):
        chosen({VARIABLE: name})


@pytest.mark.vectors
def test_this_process_has_the_layout_that_it_was_asked_for():
    assert str(vectors.LAYOUT) == os.environ.get(VARIABLE, str(chosen({})))
