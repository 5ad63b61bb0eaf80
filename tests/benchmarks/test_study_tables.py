"""The tables of docs/study.md are those of the kept studies."""

from __future__ import annotations

import pytest

from benchmarks.study_tables import STUDIES, tables
from documents import ROOT

TABLES = dict(tables(STUDIES))


@pytest.mark.parametrize("name", TABLES)
def test_a_table_stands_on_the_page_as_it_is_computed(name):
    assert TABLES[name] in (ROOT / "docs/study.md").read_text(encoding="utf-8")
