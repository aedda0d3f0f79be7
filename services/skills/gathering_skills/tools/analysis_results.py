"""What the tools of the skill `analysis` give."""

from __future__ import annotations

from pydantic import Field

from gathering_skills.tooling.tool import Result


class FileType(Result):
    """The files with one ending."""

    extension: str = Field(description="With its dot, in lower case; empty: none.")
    file_count: int
    size_bytes: int


class SizedFile(Result):
    """A file and its size."""

    path: str
    size_bytes: int


class Summary(Result):
    """What a directory holds, without what is passed over."""

    path: str
    file_count: int
    size_bytes: int
    python_file_count: int
    python_line_count: int
    file_types: list[FileType] = Field(description="Most frequent first.")
    packages: list[str] = Field(description="Topmost folders with an __init__.py.")
    largest_files: list[SizedFile]
    message: str


class RuleTotal(Result):
    """The findings of one rule."""

    rule: str
    name: str
    count: int
    category: str = Field(description="Ruff's own, such as correctness or security.")
    why: str = Field(description="Why the rule is there, in ruff's words.")


class LintFinding(Result):
    """Something that ruff found."""

    path: str
    line: int
    column: int
    rule: str
    name: str
    message: str


class Lint(Result):
    """A part of what ruff found, and how much it is in all."""

    python_file_count: int
    finding_count: int
    rule_count: int = Field(description="Rules with findings.")
    totals: list[RuleTotal] = Field(description="Most frequent first; at most 60.")
    findings: list[LintFinding]
    next_offset: int = Field(description="`offset` for the rest; 0: that was all.")
    rules: list[str]
    ignore: list[str]
    command: str = Field(description="Finds the same by hand, in the workspace.")
    ruff_version: str
    skipped_file_count: int = Field(description="Too large or not readable.")
    message: str


class ComplexFunction(Result):
    """A function and its complexity."""

    path: str
    line: int
    name: str
    complexity: int


class Complexity(Result):
    """A part of the functions above the threshold, most complex first."""

    python_file_count: int
    function_count: int
    mean: float
    highest: int
    threshold: int
    over_threshold_count: int
    functions: list[ComplexFunction]
    next_offset: int = Field(description="`offset` for the rest; 0: that was all.")
    command: str = Field(description="Finds the same by hand, in the workspace.")
    message: str


class LongFile(Result):
    """A file and its lines."""

    path: str
    line_count: int


class LongFunction(Result):
    """A function and its lines, from `def` to its end."""

    path: str
    line: int
    name: str = Field(description="With the classes and functions that hold it.")
    line_count: int


class UnparsedFile(Result):
    """A file that Python cannot parse."""

    path: str
    line: int
    message: str


class Sizes(Result):
    """How large the Python code is."""

    python_file_count: int
    line_count: int
    code_line_count: int = Field(description="Neither blank nor only a comment.")
    comment_line_count: int
    blank_line_count: int
    function_count: int
    class_count: int
    longest_files: list[LongFile]
    longest_functions: list[LongFunction]
    unparsed_files: list[UnparsedFile] = Field(description="At most 50.")
    message: str


class ThirdParty(Result):
    """A package of others that is imported."""

    name: str
    file_count: int
    files: list[str] = Field(description="At most 5.")


class StandardModule(Result):
    """A module of the standard library that is imported."""

    name: str
    file_count: int


class ImportedFile(Result):
    """A file and how many others import it."""

    path: str
    importer_count: int


class ImportCycle(Result):
    """Modules that import each other in a circle."""

    modules: list[str] = Field(description="At most 20.")
    size: int
    example: list[str] = Field(description="A shortest way round; first and last are the same.")


class ImportEdge(Result):
    """One file imports another."""

    importer: str
    imported: str


class Imports(Result):
    """Who imports whom, and what."""

    python_file_count: int
    module_count: int
    import_count: int
    third_party: list[ThirdParty] = Field(description="Most used first; at most 60.")
    standard_library: list[StandardModule] = Field(description="Most used first; at most 60.")
    most_imported: list[ImportedFile]
    cycle_count: int
    cycles: list[ImportCycle] = Field(description="Largest first; at most 20.")
    edge_count: int
    edges: list[ImportEdge]
    unparsed_files: list[UnparsedFile] = Field(description="At most 50.")
    message: str
