import pytest

from segstream.cli.console import plain, print_table, progress
from segstream.cli.report.text_table import text_table


def test_names_in_tables_are_no_markup(capsys):
    names = ["[/a]", "[bold]b", "road [wet]", ":smile:"]
    print_table(("[class]", "[n]"), [(name, i) for i, name in enumerate(names)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition(" ")[0].rstrip() for line in lines] == ["[class]", *names]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\rb\x07\x9b", "a\\rb\\x07\\x9b"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("caf\udce9", "caf\\udce9"),
        ("Straße 東京\u3000\u00a0x\n\t[b]", "Straße 東京\u3000\u00a0x\n\t[b]"),
    ],
)
def test_names_move_no_cursor(capsys, text, shown):
    assert plain(text) == shown
    print_table((text.replace("\n", ""),), [])
    assert "\x1b" not in capsys.readouterr().out


def test_a_progress_title_is_no_markup(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress("verify [/a] [bold]b") as report:
        report(1, 1)
    assert "verify [/a] [bold]b" in capsys.readouterr().err


def test_names_in_tables_for_documents():
    rows = [("a|b_c<i>&", [(0.5, "50.0")])]
    assert r"| a\|b_c&lt;i>& |" in text_table("markdown", ["x_y"], rows, bold=False)
    assert r"a|b\_c<i>\&" in text_table("latex", ["x_y"], rows, bold=False)
    assert r"x\_y" in text_table("latex", ["x_y"], rows, bold=False)
