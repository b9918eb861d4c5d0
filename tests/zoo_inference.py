# ruff: noqa: ARG002  (what a function takes is the point)
"""Apps as written for inference.sh, in the forms that are found in the wild."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from typing import Any

from inferencesh import BaseApp, BaseAppInput, BaseAppOutput, File, Metadata, function
from pydantic import BaseModel, Field, field_validator

import warmd


class AppSetup(BaseModel):
    model: str = "small"
    layers: int = 2


class AppInput(BaseAppInput):
    prompt: str = Field(description="What to say.")
    steps: int = 4

    @field_validator("prompt")
    @classmethod
    def _known(cls, prompt: str) -> str:
        if prompt == "hang":
            while True:
                time.sleep(0.01)
        if prompt == "broken":
            raise RuntimeError("the validator is broken")
        return prompt


class AppOutput(BaseAppOutput):
    text: str
    image: File | None = None


class Picture(BaseModel):
    image: File


class Typed(BaseApp):
    """Says things.

    At length.
    """

    async def setup(self, config: AppSetup) -> None:
        self.setup_value = config
        self.logger.info("setup of %s", config.model)

    async def run(self, input_data: AppInput) -> AppOutput:
        """Says it once."""
        return AppOutput(text=f"{self.setup_value.model}: {input_data.prompt} x{input_data.steps}")

    async def told(self, app_input: AppInput, metadata: Any) -> dict[str, Any]:
        metadata.log("told", app_input.prompt)
        return metadata.model_dump() | {"is": isinstance(metadata, Metadata)}

    @function(annotations={"readOnlyHint": True})
    async def picture(self, input_data: AppInput) -> AppOutput:
        with open(input_data.prompt, "w") as file:
            file.write("a picture")
        return AppOutput(text="drawn", image=File(path=input_data.prompt))

    async def size(self, input_data: Picture) -> int:
        return os.path.getsize(input_data.image.path or "")

    async def steps(self, input_data: AppInput) -> AsyncGenerator[AppOutput, None]:
        for number in range(input_data.steps):
            yield AppOutput(text=f"{input_data.prompt} {number}")

    async def live(self, input_data: AppInput, socket: Any) -> AppOutput:
        raise AssertionError("entered")

    def blocking(self, input_data: AppInput) -> str:
        """Looks itself whether it is to stop, as an app with a blocking engine does."""
        warmd.context.progress("in")
        deadline = time.monotonic() + 10
        while not self.context.cancel_requested and time.monotonic() < deadline:
            time.sleep(0.01)
        return "stopped" if self.context.cancel_requested else "late"


class Plain(BaseApp):
    """Nothing is typed; setup takes the metadata."""

    async def setup(self, metadata: Any) -> None:
        self.app_id, self.task_id, self.context = metadata.app_id, metadata.task_id, "a browser's"
        self.cancels = 0

    async def on_cancel(self) -> bool:
        self.cancels += 1
        return True

    async def unload(self) -> None:
        print("unloaded")

    async def run(self, input_data: Any, metadata: Any) -> Any:
        return {"input": input_data, "app": self.app_id, "task": [self.task_id, metadata.task_id],
                "context": self.context, "cancels": self.cancels}  # fmt: skip

    async def wait(self, input_data: Any) -> None:
        await asyncio.sleep(60)


class Config(BaseApp):
    async def setup(self, config: Any) -> None:
        self.device = config.get("device", "cpu")

    async def where(self, input_data: Any) -> str:
        return str(self.device)


class Bare(BaseApp):
    """Overrides nothing: it has no function."""


class Strict(BaseApp):
    async def setup(self, config: NeedsModel) -> None: ...


class NeedsModel(BaseModel):
    model: str
