"""A prompt about a subject that stands in it."""

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from service.contracts.base import Sent, Text


class SubjectPrompt(Sent):
    """What a fact, or a trace, is about."""

    prompt: Annotated[Text, Field(examples=["The Eiffel Tower is located in the city of"])]
    subject: Annotated[Text, Field(description="verbatim in the prompt", examples=["The Eiffel Tower"])]

    @field_validator("prompt")
    @classmethod
    def _no_trailing_space(cls, prompt: str) -> str:
        if prompt.endswith(" "):
            raise ValueError("must not end with a space; the target is appended after one")
        return prompt

    @field_validator("subject")
    @classmethod
    def _in_prompt(cls, subject: str, info: ValidationInfo) -> str:
        if subject != subject.strip():
            raise ValueError("must not begin or end with white space; remove it")
        if "prompt" in info.data and subject not in info.data["prompt"]:
            raise ValueError("must occur in the prompt, verbatim and in the same case")
        return subject
