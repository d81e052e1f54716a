"""The pages made to be refused: fifty, sound as files where they shall be, refused for the right reason."""

from typing import get_args

import pytest

from datamodules.errors import DataError
from datamodules.page import read_page
from lightning_app.digitize.reader import SHIPPED, load_reader
from lightning_app.digitize.results import Refusal, RefusalCode
from tests.lightning_app.digitize.pages_to_refuse import pages_to_refuse

AT_MOST_ACCEPTED, AT_LEAST_RIGHT = 0, 45


def code_of(reader, page):
    try:
        result, _ = reader.read(read_page(page.content))
    except DataError as error:
        return error.problems[0].code
    return result.code if isinstance(result, Refusal) else "accepted"


@pytest.mark.slow
def test_files_open_unless_the_file_itself_is_to_be_refused():
    pages = pages_to_refuse()
    assert len(pages) == len({page.name for page in pages}) == 50
    for page in pages:
        if set(page.codes) <= set(get_args(RefusalCode)):
            assert read_page(page.content).ink.ndim == 2
        else:
            with pytest.raises(DataError) as refusal:
                read_page(page.content)
            assert refusal.value.problems[0].code in page.codes


@pytest.mark.slow
@pytest.mark.skipif(not SHIPPED.is_file(), reason="no reader ships yet")
def test_the_reader_that_ships_refuses_them_for_the_right_reason():
    reader = load_reader()
    codes = [(page, code_of(reader, page)) for page in pages_to_refuse()]
    assert sum(code == "accepted" for _, code in codes) <= AT_MOST_ACCEPTED
    assert sum(code in page.codes for page, code in codes) >= AT_LEAST_RIGHT
