"""Errors of the server, in the form that OpenAI clients expect.

Every refusal is an `ApiError`: `{"error": {"message", "type", "param", "code"}}` with a status:

    400  a value is wrong, too large for the model, or asks for something this server does not do
    401  the API key is missing or wrong            404  unknown model or address
    429  the queue is full (with Retry-After)       500/503  the engine failed / does not run
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

RETRY_AFTER_S = 1


class ApiError(Exception):
    """A request that is refused, with everything the client is told."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.kind = kind

    def body(self) -> dict[str, Any]:  # JSON
        """The error object of the OpenAI API."""
        error = {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}

    def response(self) -> JSONResponse:
        """The HTTP answer."""
        headers = {"Retry-After": str(RETRY_AFTER_S)} if self.status == 429 else None
        return JSONResponse(self.body(), status_code=self.status, headers=headers)


def unknown_model(given: str, served: str) -> ApiError:
    """404: the request names a model that is not served here."""
    message = f"the model {given!r} does not exist here; this server has {served!r}"
    return ApiError(404, message, param="model", code="model_not_found")


def queue_full(reason: str) -> ApiError:
    """429: nothing more may wait."""
    return ApiError(429, f"{reason}; try again later", code="queue_full", kind="rate_limit_error")


def engine_down(reason: str) -> ApiError:
    """503: no request can be served any more."""
    return ApiError(503, reason, kind="server_error")


def engine_failed(reason: str) -> ApiError:
    """500: a request that was accepted could not be finished."""
    return ApiError(500, reason, kind="server_error")


def install_handlers(app: FastAPI) -> None:
    """Make every error of `app` an OpenAI error body."""

    @app.exception_handler(ApiError)
    async def _refused(request: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return from_validation(error.errors()).response()

    @app.exception_handler(HTTPException)
    async def _no_route(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{request.method} {request.url.path}: {error.detail}"
        return ApiError(error.status_code, message).response()

    @app.exception_handler(Exception)
    async def _bug(request: Request, error: Exception) -> JSONResponse:
        message = f"internal error: {type(error).__name__}; the log of the server has the details"
        return ApiError(500, message, kind="server_error").response()


def from_validation(errors: Sequence[Mapping[str, Any]]) -> ApiError:  # pydantic's error records
    """The first of pydantic's complaints as a 400 that names the parameter."""
    first = errors[0]
    context = first.get("ctx", {})
    location = first["loc"][1:]
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is not valid JSON: {context.get('error', first['msg'])}")
    if not location and "param" not in context:
        return ApiError(400, "the body must be a JSON object sent as application/json")
    param = context.get("param") or _spell(location)
    code = "unsupported_parameter" if first["type"] == "unsupported" else None
    return ApiError(400, _explain(first, param), param=param, code=code)


def _explain(error: Mapping[str, Any], param: str) -> str:  # pydantic's error record
    if error["type"] == "missing":
        return f"{param} is required"
    if error["type"] == "extra_forbidden":
        return f"{param} is not a parameter of this address; remove it"
    if error["type"] in ("unsupported", "bad_value"):
        return str(error["msg"])
    return f"{param}={_shorten(error['input'])}: {error['msg']}"


def _spell(location: Sequence[str | int]) -> str:
    """("messages", 0, "content") becomes messages[0].content."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).removeprefix(".")


def _shorten(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[:limit] + "..."
