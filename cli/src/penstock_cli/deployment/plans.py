"""Deployments: documents of a person's sources, planned and carried out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from penstock_cli.deployment.changes import dotted
from penstock_cli.deployment.documents import (
    DocumentError,
    Fault,
    Place,
    SourceDocument,
    read_documents,
)
from penstock_cli.deployment.filling import check_texts, fill_in, override
from penstock_cli.exits import CliError, ExitCode
from penstock_client.client import PenstockClient
from penstock_client.documents import EndpointDocument, PlanDocument
from penstock_client.errors import ApiError

#: Refusals that say nothing of a document: no key, too many requests.
_OF_NO_DOCUMENT: Final = frozenset({401, 429})


@dataclass(frozen=True, slots=True)
class Deployment:
    """One document, and what it would change."""

    app_name: str
    document: SourceDocument
    plan: PlanDocument

    @property
    def changes(self) -> bool:
        """Whether there is anything to write."""
        return self.plan.creates or bool(self.plan.changes)


def read_sources(
    sources: Sequence[tuple[str, str]], settings: Sequence[str], environment: Mapping[str, str]
) -> list[SourceDocument]:
    """The documents of these sources, in order, with variables and settings in them [pure].

    Args:
        sources: (what it is called, its text) of each.
        settings: of `--set`.
        environment: for variables.

    Raises:
        DocumentError: with everything wrong in all of them.
    """
    documents: list[SourceDocument] = []
    faults: list[Fault] = []
    for source, text in sources:
        try:
            documents += read_documents(text, source)
        except DocumentError as error:
            faults += error.faults
    if settings and len(documents) > 1:
        told = f"there are {len(documents)} documents, and nothing says which one is meant"
        faults.append(Fault(Place("--set"), told))
    if faults:
        raise DocumentError(faults)
    ready: list[SourceDocument] = []
    for document in documents:
        try:
            filled = override(fill_in(document, environment), settings)
            check_texts(filled)
        except DocumentError as error:
            faults += error.faults
        else:
            ready.append(filled)
            faults += _name_faults(ready)
    if faults:
        raise DocumentError(faults)
    return ready


def _name_faults(documents: Sequence[SourceDocument]) -> list[Fault]:
    """What is wrong with the name of the last of these documents."""
    document = documents[-1]
    name = document.value.get("app_name")
    if not isinstance(name, str) or not name:
        told = (
            "names no endpoint; add a line like `app_name: echo`, "
            "which is the first part of its URL and finds it again"
        )
        return [Fault(document.place_of("/app_name"), told)]
    for other in documents[:-1]:
        if other.value["app_name"] == name:
            told = f"'{name}' is deployed by {other.place_of('/app_name')} as well; give it once"
            return [Fault(document.place_of("/app_name"), told)]
    return []


async def plan_all(client: PenstockClient, documents: Sequence[SourceDocument]) -> list[Deployment]:
    """What each document would change.

    Raises:
        CliError: documents are refused; with every error of all of them, and where it stands.
        ApiError: something else is refused.
    """
    deployments: list[Deployment] = []
    faults: list[Fault] = []
    code = ExitCode.REFUSED
    for document in documents:
        name: str = document.value["app_name"]
        try:
            plan = await client.endpoints.plan(name, document.value)
        except ApiError as error:
            if error.status in _OF_NO_DOCUMENT or error.status >= 500:
                raise
            if error.status == 403:
                code = ExitCode.DENIED
            faults += refusal_faults(document, error)
        else:
            deployments.append(Deployment(name, document, plan))
    if faults:
        raise CliError("refused:", *(f"  {fault}" for fault in faults), code=code)
    return deployments


def refusal_faults(document: SourceDocument, error: ApiError) -> list[Fault]:
    """What the api refuses of a document, each where it stands [pure]."""
    if not error.problem.errors:
        return [Fault(document.place_of("/app_name"), str(error))]
    faults = []
    for item in error.problem.errors:
        path = dotted(item.pointer)
        variable = document.variables.get(item.pointer)
        hint = f" (it is text, filled in from {variable}; --set {path}=… takes numbers)"
        told = f"{path}: {item.message}" if path else item.message
        faults.append(
            Fault(document.place_of(item.pointer), told + (hint if variable is not None else ""))
        )
    return faults


async def carry_out(client: PenstockClient, deployment: Deployment) -> EndpointDocument:
    """The endpoint as deployed; without changes, as it is.

    Raises:
        CliError: it has changed since it was planned.
        ApiError: something else is refused.
    """
    if not deployment.changes:
        return await client.endpoints.show(deployment.app_name)
    plan = deployment.plan
    etag = None if plan.creates else plan.etag
    try:
        return await client.endpoints.replace(
            deployment.app_name,
            deployment.document.value,
            if_match=etag,
            only_new=plan.creates,
        )
    except ApiError as error:
        if error.status != 412:
            raise
        told = (
            f"'{deployment.app_name}' was changed by somebody else since it was compared; "
            "nothing was written to it. Deploy again to see the difference to what is there now"
        )
        raise CliError(told, code=ExitCode.REFUSED) from None
