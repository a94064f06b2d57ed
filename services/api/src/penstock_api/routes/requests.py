"""Documents that ask for a step and may be left out."""

from typing import Final, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from penstock_api.bodies import read_json
from penstock_api.context import Api
from penstock_common.errors import InvalidDocumentError, Problem

JSON: Final = "application/json"

R = TypeVar("R", bound=BaseModel)


async def read_request(api: Api, request: web.Request, model: type[R]) -> R:
    """The request's document; without a body, one that says nothing.

    Raises:
        PenstockError: the body is no such document; see `read_json`.
    """
    if not request.body_exists:
        return model()
    document = await read_json(request, (JSON,), api.settings.body_timeout_s)
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise InvalidDocumentError(
            [
                Problem("".join(f"/{part}" for part in e["loc"]), e["msg"].lower())
                for e in error.errors()
            ]
        ) from None
