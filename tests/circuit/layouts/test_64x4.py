import pytest
from quantum_hybrid.circuit.layout import AVX512

from in_layout import assert_passes_in


@pytest.mark.slow
def test_native_in_this_layout():
    assert_passes_in(AVX512)
