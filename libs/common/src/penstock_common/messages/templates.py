"""Templates: what several endpoints run, as clients of RunPod's API write it."""

from collections.abc import Mapping

from pydantic import AwareDatetime

from penstock_common.messages.base import Message


class TemplateRecord(Message):
    """A template. Bucket TEMPLATES; written by the api."""

    template_id: str
    #: for people
    name: str
    image: str
    registry_auth_id: str | None = None
    #: words; empty = the image's own
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = {}
    #: null = as of an endpoint
    container_disk_gb: int | None = None
    #: of a local volume; 0 = none
    volume_gb: int = 0
    volume_mount_path: str
    #: `<number>/<protocol>`
    ports: tuple[str, ...] = ()
    readme: str = ""
    serverless: bool = False
    public: bool = False
    #: `NVIDIA`, `AMD` or `CPU`
    category: str = "NVIDIA"
    created_at: AwareDatetime
