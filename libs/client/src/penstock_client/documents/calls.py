"""What the router says of requests to endpoints."""

from penstock_client.documents.base import ProblemDocument


class CallProblemDocument(ProblemDocument):
    """Why the router did not get an answer of a worker."""

    #: requests of the endpoint that wait at that router; null = it says nothing
    queue_length: int | None = None
    #: place of the request among them, from 1; null = it says nothing
    position: int | None = None
