import pytest

from in_layout import assert_passes_in
from quantum_hybrid.compiled.layout import AVX2


@pytest.mark.slow
def test_native_in_this_layout():
    assert_passes_in(AVX2)
