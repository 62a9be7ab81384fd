"""HCL text as blocks and expressions.

tree-sitter's grammar reads it: 13 ms to load, against 0.14 s of python-hcl2 and the seconds that it
takes to make its tables again wherever it may not write into its own package.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import tree_sitter
import tree_sitter_hcl

from pybuild.bake.hcl import expressions as tree
from pybuild.bake.hcl.body import Body, Field, HclBlock
from pybuild.bake.hcl.expressions import Expression
from pybuild.bake.hcl.templates import TemplatePiece, heredoc_pieces, quoted_text, template_of
from pybuild.bake.hcl.values import Value, to_number
from pybuild.model.errors import UserError
from pybuild.model.span import Span

Node = tree_sitter.Node
_POSTFIXES = frozenset(("get_attr", "index", "splat"))
_SIGNS = frozenset(["+", "-", "*", "/", "%", "<", ">", "<=", ">=", "==", "!=", "&&", "||"])
_NO_CODE = frozenset(("comment",))


@cache
def _parser() -> tree_sitter.Parser:
    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_hcl.language()))


def read_hcl(text: bytes, filename: str) -> Body:
    """Read a file.

    Raises:
        UserError: it is not HCL; with line and column.
    """
    return _Reader(text, filename).file(_parsed(text, filename))


def read_expression(text: str, span: Span) -> Expression:
    """Read one expression, from a file in another language.

    Args:
        span: the place that errors name.

    Raises:
        UserError: it is none.
    """
    body = read_hcl(f"x = {text}\n".encode(), span.file)
    return body.fields["x"].expression


def read_template(text: str, span: Span) -> Expression:
    """Read a text with ``${…}`` and ``%{…}`` in it, from a file in another language.

    Raises:
        UserError: it is none.
    """
    end = "END"
    while end in text:
        end += "D"
    source = f"x = <<{end}\n{text}\n{end}\n".encode()
    reader = _Reader(source, span.file)
    node = _first(_parsed(source, span.file), "heredoc_template")
    if node is None:
        raise UserError(f"{span.file}: this text cannot be read as a template", spans=[span])
    return reader.heredoc(node, without_last_newline=True)


def _parsed(text: bytes, filename: str) -> Node:
    root = _parser().parse(text).root_node
    if root.has_error:
        raise _syntax_error(root, text, filename)
    return root


def _first(node: Node, kind: str) -> Node | None:
    if node.type == kind:
        return node
    return next((inner for child in node.children if (inner := _first(child, kind))), None)


def _syntax_error(root: Node, text: bytes, filename: str) -> UserError:
    """Return an error about the first place that the grammar could not follow."""
    node = root
    while not (node.is_error or node.is_missing):
        node = next(child for child in node.children if child.has_error or child.is_missing)
    row, column = node.start_point
    if node.is_missing:
        problem = f"{node.type.replace('_', ' ')} is missing"
    else:
        shown = text[node.start_byte : node.end_byte].decode(errors="replace").split("\n")[0]
        problem = f'unexpected "{shown[:40]}"' if shown else "unexpected end of the file"
    return UserError(
        f"{filename}:{row + 1}:{column + 1}: {problem}",
        spans=[Span(filename, row + 1, row + 1, column + 1)],
        hints=['a bake file is HCL: name = value, and blocks such as target "app" {…}'],
    )


def _chosen(
    span: Span, condition: Expression, then: Expression, otherwise: Expression
) -> Expression:
    """Return a conditional; the grammar takes the first of a chain for the condition of the rest."""
    if not isinstance(condition, tree.Conditional):
        return tree.Conditional(span, condition, then, otherwise)
    rest = _chosen(span, condition.otherwise, then, otherwise)
    return tree.Conditional(span, condition.condition, condition.then, rest)


def _trims(text: str) -> tuple[bool, bool]:
    """Whether ``${~ … ~}`` takes the white space before it, and after it."""
    return text[2:3] == "~", text[-2:-1] == "~"


def _inside(
    pieces: Sequence[TemplatePiece], before: tuple[bool, bool], after: tuple[bool, bool]
) -> list[TemplatePiece]:
    """Return the pieces between two directives, of whose white space these may take some."""
    made = list(pieces)
    if before[1]:
        made[0] = replace(made[0], text=made[0].text.lstrip())
    if after[0]:
        made[-1] = replace(made[-1], text=made[-1].text.rstrip())
    return made


class _Reader:
    """Makes the parts of one file of the nodes of its grammar."""

    def __init__(self, text: bytes, filename: str) -> None:
        self._text = text
        self._filename = filename
        self._depth = 0

    def _of(self, node: Node) -> str:
        return self._text[node.start_byte : node.end_byte].decode(errors="replace")

    def _span(self, first: Node, last: Node | None = None) -> Span:
        end = (last or first).end_point[0] + 1
        return Span(self._filename, first.start_point[0] + 1, end, first.start_point[1] + 1)

    # --- blocks -----------------------------------------------------------------------------------

    def file(self, node: Node) -> Body:
        """Return the fields and blocks of a file.

        Raises:
            UserError: it is an object, as a file in JSON is.
        """
        for child in node.children:
            if child.type == "object":
                raise UserError("a block or an attribute is expected", spans=[self._span(child)])
        return self.body(node)

    def body(self, node: Node) -> Body:
        """Return the fields and blocks of a file, or of what stands between braces."""
        inner = next((child for child in node.children if child.type == "body"), None)
        fields: dict[str, Field] = {}
        blocks: list[HclBlock] = []
        for child in () if inner is None else inner.children:
            if child.type == "attribute":
                field = self._field(child)
                if any(one.span.last_line == field.span.first_line for one in fields.values()):
                    raise UserError(
                        f'a new line is missing before "{field.name}"', spans=[field.span]
                    )
                if field.name in fields:
                    first = fields[field.name].span.first_line
                    raise UserError(
                        f'attribute redefined: "{field.name}" was already set in line {first}',
                        spans=[field.span],
                    )
                fields[field.name] = field
            elif child.type == "block":
                blocks.append(self._block(child))
        return Body(fields, tuple(blocks))

    def _field(self, node: Node) -> Field:
        name, _, value = (child for child in node.children if child.type not in _NO_CODE)
        return Field(self._of(name), self.expression([value]), self._span(node))

    def _block(self, node: Node) -> HclBlock:
        heads = [child for child in node.children if child.type in ("identifier", "string_lit")]
        labels = [self._label(head) for head in heads[1:]]
        start = next(child for child in node.children if child.type == "block_start")
        return HclBlock(
            self._of(heads[0]), tuple(labels), self.body(node), self._span(heads[0], start)
        )

    def _label(self, node: Node) -> str:
        return self._of(node) if node.type == "identifier" else self._string(node)

    def _string(self, node: Node) -> str:
        return quoted_text(self._of(node)[1:-1])

    # --- expressions ------------------------------------------------------------------------------

    def expression(self, nodes: Sequence[Node]) -> Expression:
        """Return the expression of a term and what follows it: ``a``, ``.b``, ``[0]``."""
        self._depth += 1
        if self._depth > tree.MOST_DEPTH:
            raise UserError(
                f"expressions nest deeper than {tree.MOST_DEPTH}", spans=[self._span(nodes[0])]
            )
        nodes = [node for node in nodes if node.type not in _NO_CODE]
        made = self._term(nodes)
        self._depth -= 1
        return made

    def _term(self, nodes: Sequence[Node]) -> Expression:
        first = nodes[0]
        if first.type == "(":
            close = next(at for at, node in enumerate(nodes) if node.type == ")")
            inner = self.expression(nodes[1:close])
            made: Expression = tree.Parenthesised(self._span(first, nodes[close]), inner)
            return self._with_postfixes(made, nodes[close + 1 :])
        return self._with_postfixes(self._simple(first), nodes[1:])

    def _simple(self, node: Node) -> Expression:
        span = self._span(node)
        match node.type:
            case "expression":
                return self.expression(node.children)
            case "literal_value":
                return self._literal(node.children[0], span)
            case "variable_expr":
                return tree.Name(span, self._of(node))
            case "template_expr":
                inner = node.children[0]
                return (
                    self._quoted(inner) if inner.type == "quoted_template" else self.heredoc(inner)
                )
            case "collection_value":
                return self._collection(node.children[0])
            case "for_expr":
                return self._loop(node.children[0])
            case "function_call":
                return self._call(node)
            case "conditional":
                parts = [child for child in node.children if child.type == "expression"]
                return _chosen(span, *(self.expression([part]) for part in parts))
            case "operation":
                return self._operation(node.children[0])
            case other:
                raise UserError(f"cannot read a {other.replace('_', ' ')} here", spans=[span])

    def _literal(self, node: Node, span: Span) -> Expression:
        text = self._of(node)
        value: Value
        match node.type:
            case "string_lit":
                value = self._string(node)
            case "numeric_lit":
                value = to_number(text)
            case "bool_lit":
                value = text == "true"
            case _:
                value = None
        return tree.Literal(span, value)

    def _with_postfixes(self, of: Expression, nodes: Sequence[Node]) -> Expression:
        for node in nodes:
            span = Span(of.span.file, of.span.first_line, node.end_point[0] + 1, of.span.column)
            if node.type == "get_attr":
                of = tree.Attribute(span, of, self._of(node.children[-1]))
            elif node.type == "index":
                of = tree.ElementOf(span, of, self._place(node))
            elif node.type == "splat":
                steps = [
                    self._of(step.children[-1]) if step.type == "get_attr" else self._place(step)
                    for step in node.children[0].children
                    if step.type in _POSTFIXES
                ]
                of = tree.Splat(span, of, tuple(steps))
        return of

    def _place(self, node: Node) -> Expression:
        inner = node.children[0]
        if inner.type == "legacy_index":
            digits = self._of(inner).lstrip(".")
            return tree.Literal(self._span(inner), int(digits))
        return self.expression([child for child in inner.children if child.type == "expression"])

    def _operation(self, node: Node) -> Expression:
        parts = [child for child in node.children if child.type not in _NO_CODE]
        span = self._span(node)
        if node.type == "unary_operation":
            of = self.expression(parts[1:])
            return tree.Unary(span, self._of(parts[0]), of)
        at = next(at for at, part in enumerate(parts) if part.type in _SIGNS)
        left, right = self.expression(parts[:at]), self.expression(parts[at + 1 :])
        return tree.Binary(span, parts[at].type, left, right)

    def _call(self, node: Node) -> Expression:
        inner = next((child for child in node.children if child.type == "function_arguments"), None)
        parts = () if inner is None else inner.children
        arguments = [self.expression([part]) for part in parts if part.type == "expression"]
        spread = any(part.type == "ellipsis" for part in parts)
        return tree.FunctionCall(
            self._span(node), self._of(node.children[0]), tuple(arguments), spread
        )

    def _collection(self, node: Node) -> Expression:
        span = self._span(node)
        if node.type == "tuple":
            parts = [child for child in node.children if child.type == "expression"]
            return tree.ListOf(span, tuple(self.expression([part]) for part in parts))
        pairs: list[tuple[Expression, Expression]] = []
        for child in node.children:
            if child.type == "object_elem":
                parts = [part for part in child.children if part.type == "expression"]
                pairs.append((self.expression([parts[0]]), self.expression([parts[1]])))
        return tree.ObjectOf(span, tuple(pairs))

    def _loop(self, node: Node) -> Expression:
        intro = next(child for child in node.children if child.type == "for_intro")
        condition = next((child for child in node.children if child.type == "for_cond"), None)
        parts = [child for child in node.children if child.type == "expression"]
        each = [self.expression([part]) for part in parts]
        loop = self._head(intro, condition)
        span = self._span(node)
        if node.type == "for_tuple_expr":
            return tree.ListLoop(span, loop, each[0])
        grouped = any(child.type == "ellipsis" for child in node.children)
        return tree.ObjectLoop(span, loop, each[0], each[1], grouped)

    def _head(self, intro: Node, condition: Node | None = None) -> tree.ForLoop:
        names = [self._of(child) for child in intro.children if child.type == "identifier"]
        over = next(child for child in intro.children if child.type == "expression")
        taken = None
        if condition is not None:
            part = next(child for child in condition.children if child.type == "expression")
            taken = self.expression([part])
        return tree.ForLoop("".join(names[:-1]), names[-1], self.expression([over]), taken)

    # --- templates --------------------------------------------------------------------------------

    def _quoted(self, node: Node) -> Expression:
        start, end = node.children[0].end_byte, node.children[-1].start_byte
        pieces = self._pieces(node.children[1:-1], start, end)
        read = [
            TemplatePiece(quoted_text(piece.text), piece.span, piece.inner, piece.trims)
            for piece in pieces
        ]
        return template_of(read, self._span(node))

    def heredoc(self, node: Node, *, without_last_newline: bool = False) -> Expression:
        """Return the text between ``<<END`` and ``END``."""
        names = [child for child in node.children if child.type == "heredoc_identifier"]
        start = self._text.index(b"\n", names[0].end_byte) + 1
        end = self._text.rindex(b"\n", 0, names[-1].start_byte) + 1
        if without_last_newline:
            end -= 1
        inner = [child for child in node.children if start <= child.start_byte < end]
        flush = self._of(node.children[0]).endswith("-")
        return template_of(
            heredoc_pieces(self._pieces(inner, start, end), flush=flush), self._span(node)
        )

    def _pieces(self, nodes: Sequence[Node], start: int, end: int) -> list[TemplatePiece]:
        """Return the pieces of a template between two places: what is no node with a value is text."""
        pieces: list[TemplatePiece] = []
        at = start
        for node in nodes:
            if node.type not in ("template_interpolation", "template_directive"):
                continue
            pieces.append(self._text_piece(at, node.start_byte, node))
            pieces.append(self._valued(node))
            at = node.end_byte
        pieces.append(self._text_piece(at, max(at, end), nodes[-1] if nodes else None))
        return pieces

    def _text_piece(self, start: int, end: int, near: Node | None) -> TemplatePiece:
        row = near.start_point[0] + 1 if near is not None else 1
        return TemplatePiece(
            self._text[start:end].decode(errors="replace"), Span(self._filename, row, row)
        )

    def _valued(self, node: Node) -> TemplatePiece:
        span = self._span(node)
        if node.type == "template_interpolation":
            part = next((child for child in node.children if child.type == "expression"), None)
            if part is None:
                raise UserError("an expression is missing between ${ and }", spans=[span])
            return TemplatePiece("", span, self.expression([part]), _trims(self._of(node)))
        inner = node.children[0]
        heads = [
            child for child in inner.children if child.type.endswith(("_intro", "_start", "_end"))
        ]

        def mark_of(head: Node) -> tuple[bool, bool]:
            return _trims(self._of(head))

        bodies: list[Expression] = []
        for head, after in itertools.pairwise(heads):
            between = [
                child
                for child in inner.children
                if head.end_byte <= child.start_byte < after.start_byte
            ]
            pieces = self._pieces(between, head.end_byte, after.start_byte)
            bodies.append(
                template_of(_inside(pieces, mark_of(head), mark_of(after)), span, unwrapped=False)
            )
        trims = mark_of(heads[0])[0], mark_of(heads[-1])[1]
        if inner.type == "template_for":
            return TemplatePiece(
                "", span, tree.TextLoop(span, self._head(heads[0]), bodies[0]), trims
            )
        condition = next(child for child in heads[0].children if child.type == "expression")
        otherwise = bodies[1] if len(bodies) > 1 else tree.Literal(span, "")
        chosen = tree.Conditional(span, self.expression([condition]), bodies[0], otherwise)
        return TemplatePiece("", span, chosen, trims)
