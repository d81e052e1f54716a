import pytest

from datamodules.errors import DataError
from datamodules.yaml_text import YamlTextError, parse_yaml, read_yaml_mapping


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: &a [1, 2]\nb: *a\n", "line 2: an alias"),
        ("a: !!python/object/apply:os.system [true]\n", "could not determine a constructor"),
        ("b: 0\na: {c: 1, c: 2}\n", "line 2: the key c twice"),
        ("a: " + "[" * 40 + "]" * 40, "levels of nesting"),
        ("a: [" * 40, "levels of nesting"),
        ("a: [1, 2\n", "line 2"),
        ("\x00", "special characters"),
        ("name: \ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "special characters"),
        ("x" * (1024 * 1024 + 1), "more than 1048576"),
    ],
    ids=["alias", "tag", "repeated key", "deep", "deep and open", "open", "nul", "odd", "large"],
)
def test_text_that_is_not_plain_is_refused_with_its_reason(text, told):  # F31
    with pytest.raises(YamlTextError, match=told):
        parse_yaml(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("-.5", -0.5), ("7", 7), (".inf", float("inf")), ("off", "off"), ("yes", "yes"),
        ("true", True), ("2020-01-01", "2020-01-01"), ("null", None), ("1_000x", "1_000x"),
    ],
)  # fmt: skip
def test_numbers_and_words_are_read_as_yaml_1_2(text, value):
    assert parse_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "got nothing"), ("- 1\n", "got a list"), ("1: a\n", "the key 1"), ("a: *b\n", "line 1: an alias")],
)
def test_a_file_must_hold_one_mapping(tmp_path, text, told):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=f"YAML_INVALID a.yaml: .*{told}"):
        read_yaml_mapping(path)


def test_a_byte_order_mark_is_no_key(tmp_path):
    path = tmp_path / "a.yaml"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_text("a: 1\n", encoding=encoding)
        assert read_yaml_mapping(path) == {"a": 1}
