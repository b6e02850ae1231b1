"""Class remapping: partial, by name or id, told; and whatever a file holds, an answer or an error for its line."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cssd_geo.errors import InputError, LabelError
from cssd_geo.vectors.legend import Entry, name_key, tabulate
from cssd_geo.vectors.remapping import Remapping, Rule, read_remapping

CSV = "from,to,id,colour\nwinter wheat,cereals,3,#102030\noats,cereals,,\npond,,,\nmaize,maize,7,\n"
RULES = (
    Rule(old="winter wheat", new=Entry(name="cereals", id=3, colour=(16, 32, 48))),
    Rule(old="oats", new=Entry(name="cereals")),
    Rule(old="pond", new=None),
    Rule(old="maize", new=Entry(name="maize", id=7)),
)
NAMES = ("oats", "pond", "forest", "Winter  Wheat")


def _write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _entries(*names: str) -> list[Entry]:
    return [Entry(name=name) for name in names]


# The file


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.csv", CSV),
        ("bom.csv", b"\xef\xbb\xbf" + CSV.encode()),
        ("windows.csv", CSV.replace("\n", "\r\n")),
        ("semicolon.csv", CSV.replace(",", ";")),
        ("tab.tsv", CSV.replace(",", "\t")),
        ("blank.csv", "\n" + CSV.replace("oats", "\n  oats ") + "\n\n"),
        ("titles.csv", CSV.replace("from,to,id,colour", " From, TO,ID,Color")),
        ("order.txt", "id,to,from\n3,cereals,winter wheat\n,cereals,oats\n,,pond\n7,maize,maize\n"),
        ("quoted.csv", CSV.replace("winter wheat", '"winter wheat"')),
        ("short.csv", CSV.replace("oats,cereals,,", "oats,cereals").replace("pond,,,", "pond")),
        (
            "c.yaml",
            """winter wheat: {name: cereals, id: 3, colour: '#102030'}
oats: cereals
pond:
maize: {name: maize, id: 7}
""",
        ),
        (
            "c.yml",
            """# a comment
winter wheat:
  name: cereals
  id: 3
  color: '#102030'
oats: cereals
pond: ''
maize:
  to: maize
  id: 7
""",
        ),
    ],
)
def test_all_ways_to_write_it_agree(tmp_path: Path, name: str, content: str | bytes) -> None:
    rules = read_remapping(_write(tmp_path, name, content)).rules
    if name == "order.txt":
        assert [rule.old for rule in rules] == [rule.old for rule in RULES]
        assert [rule.new and (rule.new.name, rule.new.id) for rule in rules] == [
            rule.new and (rule.new.name, rule.new.id) for rule in RULES
        ]
    else:
        assert rules == RULES


def test_names_with_the_delimiter_and_line_ends_are_quoted(tmp_path: Path) -> None:
    rules = read_remapping(_write(tmp_path, "c.csv", 'from,to\n"a, b","c\n d"\nÄ,Ö\n')).rules
    assert rules == (Rule(old="a, b", new=Entry(name="c d")), Rule(old="Ä", new=Entry(name="Ö")))


def test_in_yaml_everything_is_a_text(tmp_path: Path) -> None:
    """YAML would take no for a truth, 1e3 for a number and 2020-01-01 for a date."""
    text = "no: yes\n1e3: on\n2020-01-01: 0x10\n3: 012\nleft: null\nout: ~\n"
    rules = read_remapping(_write(tmp_path, "c.yaml", text)).rules
    pairs = [(rule.old, rule.new and rule.new.name) for rule in rules]
    assert pairs == [
        ("no", "yes"),
        ("1e3", "on"),
        ("2020-01-01", "0x10"),
        ("3", "012"),
        ("left", None),
        ("out", None),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.json", "{}", r"remapped by a \.csv or \.yaml file"),
        ("c.csv", "old,new\na,b\n", r"line 1: the first line is old, new; it should be from,to"),
        ("c.csv", "from,from,to\na,b,c\n", "line 1: the first line is"),
        ("c.csv", "from,to\na,b,c\n", "line 2: 3 values below 2 titles"),
        ("c.csv", "from,to\n,b\n", "line 2: the old name is empty"),
        ("c.csv", "from,to,id\na,b,0\n", "line 2: the id '0' is no whole number from 1 to 65535"),
        ("c.csv", "from,to,id\na,b,1.5\n", "the id '1.5' is no whole"),
        ("c.csv", "from,to,id\na,b,²\n", "the id '²' is no whole"),
        ("c.csv", "from,to,id\na,b,99999999999999999999\n", "is no whole number"),
        ("c.csv", "from,to,colour\na,b,red\n", "line 2: the colour 'red' is not like #e0c040"),
        ("c.csv", 'from,to\n"a,b\n', "no CSV"),
        ("c.csv", "from,to\na,b\nA ,c\n", "says twice what becomes of a"),
        ("c.csv", "from,to,id\na,b,1\nc,b,2\n", "a class has one id"),
        ("c.csv", "from,to,id\na,b,1\nc,d,1\n", "an id one class"),
        ("c.csv", "", "says nothing of any class"),
        ("c.csv", "from,to\n", "says nothing of any class"),
        ("c.csv", b"from,to\n\xe4,b\n", "is not UTF-8 at byte 8"),
        ("c.csv", "from,to\n" + "a" * 100_001, "larger than 100,000 bytes"),
        ("c.yaml", "a: [b, c]\n", "line 1: a name, id or colour is a single value"),
        ("c.yaml", "- a\n- b\n", "should map old names to new ones"),
        ("c.yaml", "", "should map old names"),
        ("c.yaml", "a: b\na: c\n", "says twice what becomes of a"),
        ("c.yaml", "a: {name: {x: {y: z}}}\n", "line 1: too deep"),
        ("c.yaml", "a: &x b\nc: *x\n", "line 1: anchors and aliases"),
        ("c.yaml", "a: {naem: b}\n", "line 1: the first line is|line 1: .*naem"),
        ("c.yaml", "a: b: c\n", "is no YAML"),
        ("c.yaml", "a: !!python/object/apply:os.system [true]\n", "single value"),
        ("c.yaml", "a: b\n---\nc: d\n", "is no YAML"),
    ],
)
def test_files_that_say_nothing_usable_are_refused(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_remapping(_write(tmp_path, name, content))


def test_a_missing_file_or_a_folder_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.csv", tmp_path):
        with pytest.raises(InputError, match=r"cannot be read: No such file|remapped by a \.csv"):
            read_remapping(path)


@settings(max_examples=150, deadline=None)
@given(
    content=st.binary(max_size=80)
    | st.text(alphabet="ab,;\t\n\r\"'{}[]:-#&*!%|>?@\x00 01\u0085\ufeff", max_size=60).map(str.encode),
    suffix=st.sampled_from(["csv", "yaml"]),
    title=st.sampled_from([b"", b"from,to,id,colour\n"]),
)
def test_whatever_a_file_holds_there_are_rules_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str, title: bytes
) -> None:
    path = _write(tmp_path_factory.mktemp("fuzz"), f"c.{suffix}", (title if suffix == "csv" else b"") + content)
    try:
        rules = read_remapping(path).rules
    except InputError:
        return
    assert rules
    assert all(rule.old for rule in rules)


# What it does


def test_it_is_partial_and_says_so() -> None:
    new, notes = Remapping(rules=RULES, name="c.csv").apply(_entries(*NAMES))
    table, _ = tabulate([entry for entry in new if entry is not None])
    assert [entry and entry.name for entry in new] == ["cereals", None, "forest", "cereals"]
    assert dict(zip(table.names, table.ids, strict=True)) == {"cereals": 3, "forest": 1}
    assert table.colours[table.names.index("cereals")] == (16, 32, 48)
    assert notes == (
        "Left out, as c.csv says: pond.",
        "Not in c.csv and kept as they are: forest.",
        "In c.csv, but no class of the labels: maize.",
    )


def test_ids_and_colours_of_the_old_class_are_kept_where_none_are_given() -> None:
    rules = (Rule(old="7", new=Entry(name="wheat")), Rule(old="300", new=Entry(name="wheat")))
    old = [Entry(name="300", id=300), Entry(name="7", id=7, colour=(1, 2, 3)), Entry(name="9", id=9)]
    new, _ = Remapping(rules=rules, name="c.csv").apply(old)
    table, _ = tabulate([entry for entry in new if entry is not None])
    assert dict(zip(table.names, table.ids, strict=True)) == {"wheat": 7, "9": 9}
    assert table.colours[0] == (1, 2, 3)


def test_classes_are_found_by_id_unless_one_has_the_number_as_its_name() -> None:
    rules = (Rule(old="3", new=Entry(name="new")),)
    new, _ = Remapping(rules=rules, name="c").apply([Entry(name="wheat", id=3), Entry(name="oats", id=4)])
    assert [entry and entry.name for entry in new] == ["new", "oats"]
    new, _ = Remapping(rules=rules, name="c").apply([Entry(name="wheat", id=3), Entry(name="3", id=4)])
    assert [entry and entry.name for entry in new] == ["wheat", "new"]


def test_names_may_be_swapped() -> None:
    rules = (Rule(old="a", new=Entry(name="b")), Rule(old="b", new=Entry(name="a")))
    new, _ = Remapping(rules=rules, name="c").apply(_entries("a", "b"))
    assert [entry and entry.name for entry in new] == ["b", "a"]


def test_an_id_that_another_class_has_is_an_error() -> None:
    rules = (Rule(old="a", new=Entry(name="x", id=5)),)
    new, _ = Remapping(rules=rules, name="c").apply([Entry(name="a", id=1), Entry(name="b", id=5)])
    with pytest.raises(LabelError, match="x and b both have the id 5"):
        tabulate([entry for entry in new if entry is not None])


def test_rules_about_other_classes_or_that_leave_nothing_are_errors() -> None:
    with pytest.raises(
        LabelError, match=r"c.csv has none of the classes sand, but winter wheat, oats, pond, maize"
    ):
        Remapping(rules=RULES, name="c.csv").apply(_entries("sand"))
    with pytest.raises(LabelError, match="leaves every class out"):
        Remapping(rules=RULES, name="c.csv").apply(_entries("pond"))


@given(
    rules=st.dictionaries(st.sampled_from("abcd"), st.none() | st.sampled_from("abxy"), min_size=1),
    names=st.lists(st.sampled_from("abcde"), min_size=1, unique=True),
)
def test_each_class_becomes_what_its_rule_says_or_stays(rules: dict[str, str | None], names: list[str]) -> None:
    remapping = Remapping(
        rules=tuple(Rule(old=a, new=None if b is None else Entry(name=b)) for a, b in rules.items()), name="c"
    )
    expected = [rules.get(name, name) for name in names]
    if not set(names) & set(rules) or not any(expected):
        with pytest.raises(LabelError):
            remapping.apply(_entries(*names))
        return
    new, notes = remapping.apply(_entries(*names))
    assert [entry and name_key(entry.name) for entry in new] == expected
    assert any("kept as they are" in note for note in notes) == bool(set(names) - set(rules))
