"""Questions around a fact: what should follow from it, and what it must not touch."""

from typing import Annotated

from pydantic import Field, StringConstraints

from service.contracts.base import FewNames, Sent, Text

MOST_QUESTIONS = 100
"""In one group; MOST_GROUPS of them at most."""

MOST_GROUPS = 20

Prompts = Annotated[tuple[Text, ...], Field(fail_fast=True, max_length=MOST_QUESTIONS)]


class Question(Sent):
    """A prompt whose continuation can be right or wrong; the aliases count where the model answers freely."""

    prompt: Annotated[Text, Field(examples=["The country that the Eiffel Tower stands in is"])]
    answer: Annotated[Text, Field(examples=["Italy"])]
    aliases: Annotated[Prompts, Field(description="other names of the answer")] = ()

    @property
    def answers(self) -> tuple[str, ...]:
        """The answer and its other names."""
        return (self.answer, *self.aliases)


Questions = Annotated[tuple[Question, ...], Field(fail_fast=True, max_length=MOST_QUESTIONS)]

GroupName = Annotated[
    str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$"), Field(examples=["reasoning"])
]

Groups = Annotated[dict[GroupName, Questions], FewNames, Field(max_length=MOST_GROUPS)]
"""Questions by group, each scored under its name: `portability.reasoning_acc`."""
