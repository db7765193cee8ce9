"""Kinds of fields that many definitions share."""

from __future__ import annotations

from typing import Annotated, TypeAlias, TypeVar

from msgspec import Meta, UnsetType

__all__ = [
    "Choices",
    "Maybe",
    "ModelName",
    "Penalty",
    "Probability",
    "Rule",
    "Seed",
    "Temperature",
    "TokenCount",
    "missing",
]

T = TypeVar("T")

Maybe: TypeAlias = T | UnsetType | None
"""May be null or left out; both mean the provider's default."""

# The look-aheads refuse `.` and `..` as a path segment, and a name without a letter or digit. In
# the class, `(-;` and `@-[` are ranges: ( ) * + , - . / digits : ; and @ A-Z [. The end is asked
# for in a way that no newline gets past, and that JSON Schema's regular expressions know too.
MODEL_NAME_PATTERN = (
    r"^(?!(?:.*/)?\.\.?(?:/|(?![\s\S])))(?=[^0-9A-Za-z]*[0-9A-Za-z])"
    r"[!$&(-;=@-\[\]_a-z|~]+(?![\s\S])"
)
MODEL_NAME_LENGTH = 256

ModelName = Annotated[
    str,
    Meta(
        # Checked by `validate`, which remembers the names that are good.
        extra_json_schema={
            "pattern": MODEL_NAME_PATTERN,
            "minLength": 1,
            "maxLength": MODEL_NAME_LENGTH,
        },
        description="Name of a model, an alias, or provider/model.",
        examples=["echo/echo", "openai/gpt-4o-mini"],
    ),
]
Temperature = Annotated[float, Meta(ge=0, le=2)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Choices = Annotated[int, Meta(ge=1, le=128)]
TokenCount = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class Rule(ValueError):
    """A definition's own rule, broken: what no type can say.

    Args:
        field: The field that is at fault, below the object whose rule it is.
        problem: What is wrong with it, to stand after its name and a colon.
        code: As in the error that the client gets.
    """

    def __init__(self, field: str, problem: str, code: str) -> None:
        super().__init__(problem)
        self.field = field
        self.problem = problem
        self.code = code


def missing(field: str) -> Rule:
    """The rule that ``field`` has to be there, in this kind of object."""
    return Rule(field, "required field is missing", "missing_field")
