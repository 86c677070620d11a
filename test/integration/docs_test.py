"""The documentation says what is true: man pages are clean and name every option, links lead
somewhere, and what the pages call by name exists."""

import os
import pathlib
import re
import subprocess
import unittest

SOURCE = pathlib.Path(os.environ["OAKUM_SOURCE_DIR"])
BIN = pathlib.Path(os.environ["OAKUM_BIN_DIR"])
PROGRAM_PAGES = {"oakum-agent": 8, "oakum-hook": 8}


def markdown_files():
    listed = subprocess.run(
        ["git", "-C", SOURCE, "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        capture_output=True, text=True)
    if listed.returncode == 0:
        return [SOURCE / name for name in listed.stdout.split("\n") if name]
    return [path for path in SOURCE.rglob("*.md") if "build" not in path.relative_to(SOURCE).parts]


class ManPages(unittest.TestCase):
    def test_mandoc_has_no_complaint(self):
        pages = sorted((SOURCE / "docs/man").iterdir())
        self.assertGreaterEqual(len(pages), 5)
        for page in pages:
            with self.subTest(page=page.name):
                lint = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page],
                                      capture_output=True, text=True)
                self.assertEqual(lint.stdout + lint.stderr, "")

    def test_every_option_of_a_program_is_in_its_page(self):
        for program, section in PROGRAM_PAGES.items():
            with self.subTest(program=program):
                help_text = subprocess.run([BIN / program, "--help"], capture_output=True,
                                           text=True, check=True).stdout
                options = set(re.findall(r"(?<![\w-])--([a-z][a-z-]*)", help_text))
                self.assertTrue(options, help_text)
                page = (SOURCE / f"docs/man/{program}.{section}").read_text()
                documented = set(re.findall(r"^\.It Fl -([a-z-]+)", page, re.MULTILINE))
                self.assertLessEqual(options, documented)


class OakumPage(unittest.TestCase):
    def help(self, *words):
        return subprocess.run([BIN / "oakum", *words, "--help"], capture_output=True, text=True,
                              check=True).stdout

    def commands(self, *words):
        """Every command with its help: (words, text)."""
        text = self.help(*words)
        yield words, text
        _, _, listed = text.partition("Subcommands:\n")
        for name in re.findall(r"^  (\w[\w-]*)", listed, re.MULTILINE):
            yield from self.commands(*words, name)

    def test_every_command_and_option_is_in_the_page(self):
        page = (SOURCE / "docs/man/oakum.1").read_text()
        for words, text in self.commands():
            options = set(re.findall(r"^ +(?:-\w,)?--([a-z][a-z-]*)", text, re.MULTILINE))
            options -= {"help", "version"}
            with self.subTest(command=" ".join(words)):
                if words:
                    self.assertRegex(page, rf"\.It Cm {' '.join(words)}\b" if "Subcommands" not in text
                                     else rf"\.It Cm {words[0]} ")
                self.assertEqual(
                    [o for o in options if not re.search(rf"Fl -{o}\b", page)], [])


class Architecture(unittest.TestCase):
    def test_folders_include_what_their_table_allows(self):
        text = (SOURCE / "docs/architecture.md").read_text()
        rows = re.findall(r"^\| `([\w/]+)/` \|[^|]*\| (.*?) ?\|$", text, re.MULTILINE)
        allowed = {folder: re.findall(r"`([\w/*]+?)/?`", column) for folder, column in rows}
        looked_at = set()
        for source in (path for top in ("base", "oci", "policy", "agent", "hook", "cli")
                       for path in (SOURCE / top).rglob("*") if path.suffix in (".h", ".cc")):
            folder = str(source.parent.relative_to(SOURCE))
            self.assertIn(folder, allowed, source)
            looked_at.add(folder)
            for name in re.findall(r'^#include "([^"]+)/[^"/]+"', source.read_text(), re.MULTILINE):
                with self.subTest(source=str(source), includes=name):
                    self.assertTrue(name == folder or name in allowed[folder]
                                    or f"{os.path.dirname(name)}/*" in allowed[folder])
        self.assertGreaterEqual(len(looked_at), 14)


class ThreatModel(unittest.TestCase):
    HOSTILE_FILES = ("hostile_test", "escapes_test")

    @staticmethod
    def units():
        return "\n".join(path.read_text() for path in (SOURCE / "test/unit").rglob("*.cc"))

    @staticmethod
    def named():
        """The tests that the tables name: (suite or file, test)."""
        rows = [line for line in (SOURCE / "docs/threat-model.md").read_text().split("\n")
                if line.startswith("|")]
        return re.findall(r"`(\w+)\.(\w+)`", "\n".join(row.split("|")[-2] for row in rows))

    def test_every_test_of_a_hostile_program_is_named(self):
        """Suites whose name begins with "Hostile", and the files of HOSTILE_FILES."""
        tests = re.findall(r"^TEST(?:_[FP])?\((Hostile\w+), (\w+)\)", self.units(), re.MULTILINE)
        for name in self.HOSTILE_FILES:
            text = (SOURCE / f"test/integration/{name}.py").read_text()
            tests += [(name, test) for test in re.findall(r"^    def (test_\w+)\(", text, re.MULTILINE)]
        self.assertGreater(len(tests), 40)
        self.assertEqual(sorted(set(tests) - set(self.named())), [])

    def test_every_row_has_a_test_or_says_why_not(self):
        text = (SOURCE / "docs/threat-model.md").read_text()
        ways = text.split("\n## Ways around")[1].split("\n## ")[0]
        rows = [line.split("|") for line in ways.split("\n") if line.startswith("| ")]
        self.assertGreater(len(rows), 60)
        for row in rows:
            if row[1].strip() == "way":
                continue
            with self.subTest(way=row[1].strip()):
                self.assertEqual(len(row), 5)
                self.assertTrue(re.search(r"`[\w./]+`", row[3]) or "out of scope" in row[2] or
                                row[2].strip().startswith(("not asked", "not guarded")), row[3])

    def test_every_test_that_is_named_exists(self):
        units = self.units()
        names = self.named()
        self.assertGreater(len(names), 100)
        for group, name in names:
            with self.subTest(test=f"{group}.{name}"):
                if name.startswith("test_"):
                    files = [*(SOURCE / "test/integration").glob(f"{group}.py"),
                             *(SOURCE / "test/integration/lib").glob(f"{group}.py")]
                    self.assertTrue(files)
                    self.assertIn(f"def {name}(", files[0].read_text())
                else:
                    self.assertRegex(units, rf"TEST(_[FP])?\({group}, {name}\)")


class Markdown(unittest.TestCase):
    def test_relative_links_lead_to_files(self):
        for page in markdown_files():
            text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
            for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
                if re.match(r"[a-z]+:", target):
                    continue
                with self.subTest(page=str(page.relative_to(SOURCE)), target=target):
                    self.assertTrue((page.parent / target).exists())

    def test_scripts_and_pages_that_are_named_exist(self):
        for page in markdown_files():
            for name in re.findall(r"`(?:\./)?((?:scripts|docs|examples|packaging|test|bench)/[\w./-]+)`",
                                   page.read_text()):
                with self.subTest(page=str(page.relative_to(SOURCE)), name=name):
                    self.assertTrue((SOURCE / name).exists())


if __name__ == "__main__":
    unittest.main(verbosity=2)
