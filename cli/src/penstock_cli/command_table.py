"""Every command of `penstock`: where its function is, and one line about it.

`--help`, completion and docs/cli.md are made from this table; of the modules that it names, only
that of the chosen command is loaded. A test compares the lines with the docstrings.
"""

from collections.abc import Mapping
from typing import Final

from penstock_cli.late_commands import Group, Row

COMMANDS: Final[Mapping[str, Row | Group]] = {
    "up": Row("local.up:up", "Run the whole of Penstock on this machine until Ctrl-C."),
    "deploy": Row(
        "commands.deploy:deploy",
        "Create endpoints, or change them to be as documents say, and wait until they serve.",
    ),
    "top": Row("top.command:top", "Show endpoints, nodes and GPUs as they are, again and again."),
    "init": Row(
        "local.init:init",
        "Make the keys and the NATS configuration that `penstock up` makes, and start nothing.",
    ),
    "nats": Row(
        "local.nats:nats",
        "Run the nats-server that `penstock init` configured; ends when it must be started again.",
    ),
    "demo": Row(
        "local.demo:demo",
        "Start everything, show a request start a worker, and the worker go away.",
    ),
    "simulate": Row(
        "simulation.command:simulate",
        "Replay requests against an endpoint document, in virtual time, with the real autoscaler.",
    ),
    "usage": Row(
        "commands.usage:usage",
        "Show the GPU-seconds used by endpoint, API key, GPU product or worker, and their cost.",
    ),
    "audit": Row("commands.audit:audit", "Show who changed what, the newest first."),
    "limits": Row(
        "commands.limits:limits",
        "Show what each field of an endpoint document takes, your quota and your use of it.",
    ),
    "events": Row(
        "commands.events:events",
        "Show what happens: endpoints, scaling, workers and nodes; --json prints CloudEvents.",
    ),
    "doctor": Row(
        "doctor.command:doctor",
        "Look at NATS, api, nodes, Docker, driver, clocks and disks; exits 1 on a problem.",
    ),
    "endpoint": Group(
        "Endpoints: what you deploy, each behind its own URL.",
        {
            "create": Row(
                "commands.endpoint_create:create",
                "Create an endpoint from a document, from flags, or both (flags win).",
            ),
            "list": Row("commands.endpoint:list_endpoints", "List the endpoints."),
            "show": Row("commands.endpoint:show", "Show one endpoint."),
            "update": Row(
                "commands.endpoint_create:update",
                "Change an endpoint by a JSON merge patch, by flags, or both (flags win).",
            ),
            "delete": Row(
                "commands.endpoint:delete",
                "Delete an endpoint; its requests under way are finished first.",
            ),
            "pause": Row(
                "commands.endpoint:pause",
                "Keep an endpoint at 0 workers; its requests are refused.",
            ),
            "resume": Row("commands.endpoint:resume", "Let a paused endpoint run again."),
            "explain": Row(
                "commands.endpoint:explain",
                "Say why an endpoint has the workers it has: the autoscaler's last decisions, what is wrong now.",
            ),
            "revisions": Row(
                "commands.endpoint:revisions",
                "List an endpoint's revisions: when, why, and what each changed.",
            ),
            "rollback": Row(
                "commands.endpoint:rollback",
                "Run again what an earlier revision ran; limits and policies stay as they are now.",
            ),
            "promote": Row(
                "commands.endpoint:promote",
                "Give the canary all requests; what ran before it is replaced.",
            ),
            "abort": Row(
                "commands.endpoint:abort", "End the canary; what ran before it gets all requests."
            ),
            "metrics": Row(
                "commands.endpoint_metrics:metrics",
                "Show an endpoint's load: now, the most, and a plot of the last hour.",
            ),
            "logs": Row(
                "commands.endpoint_logs:logs",
                "Show what all workers of an endpoint wrote, each line behind its worker's id.",
            ),
            "curl": Row(
                "commands.endpoint_curl:curl", "Call an endpoint with curl.", passes_on=True
            ),
        },
    ),
    "worker": Group(
        "Workers: the containers that serve endpoints.",
        {
            "list": Row(
                "commands.worker:list_workers", "List the workers of one endpoint, or of all."
            ),
            "show": Row(
                "commands.worker:show",
                "Show one worker: how far it is, what it does, and how its start went.",
            ),
            "stop": Row(
                "commands.worker:stop",
                "Drain and stop a worker; another one starts if its endpoint needs one.",
            ),
            "logs": Row(
                "commands.worker_logs:show_logs", "Show what a worker wrote, stdout and stderr."
            ),
        },
    ),
    "node": Group(
        "Nodes: the machines with GPUs.",
        {
            "list": Row(
                "commands.node:list_nodes",
                "List the nodes that report, have workers, or have an order.",
            ),
            "show": Row("commands.node:show", "Show one node, its GPUs and its workers."),
            "join": Row(
                "commands.node_join:join",
                "Make a join token, and print the commands that make a host a node with it.",
            ),
            "cordon": Row(
                "commands.node:cordon", "Let a node take no new worker; those it has run on."
            ),
            "uncordon": Row("commands.node:uncordon", "Let a node take workers again."),
            "drain": Row(
                "commands.node_drain:drain",
                "Move a node's workers elsewhere, each once another runs; no request is interrupted.",
            ),
            "token": Group(
                "Join tokens: what lets hosts become nodes.",
                {
                    "list": Row(
                        "commands.join_token:list_tokens",
                        "List the join tokens, and which hosts joined with them.",
                    ),
                    "delete": Row(
                        "commands.join_token:delete",
                        "Let nobody join with a token any more; nodes that have stay.",
                    ),
                },
            ),
        },
    ),
    "volume": Group(
        "Network volumes: data that outlive workers, reached from several nodes.",
        {
            "create": Row(
                "commands.volume:create_volume",
                "Make a network volume known; nothing is written to it.",
            ),
            "list": Row("commands.volume:list_volumes", "List the network volumes."),
            "show": Row("commands.volume:show_volume", "Show a network volume."),
            "rename": Row("commands.volume:rename_volume", "Give a network volume another name."),
            "delete": Row(
                "commands.volume:delete_volume",
                "Forget a network volume that nothing uses; its data stay where they lie.",
            ),
        },
    ),
    "prewarm": Group(
        "Prewarms: images pulled to nodes ahead of need.",
        {
            "create": Row(
                "commands.prewarm:create_prewarm",
                "Have an image pulled to nodes, now and to those that join later.",
            ),
            "list": Row("commands.prewarm:list_prewarms", "List the prewarms."),
            "show": Row("commands.prewarm:show_prewarm", "Show how far each node is."),
            "delete": Row(
                "commands.prewarm:delete_prewarm",
                "Forget a prewarm; its image may be cleaned up from then on.",
            ),
        },
    ),
    "product": Group(
        "Products: the kinds of GPU that nodes have.",
        {
            "list": Row(
                "commands.product:list_products",
                "List the kinds of GPU: how many there are and are free, where, and what they cost.",
            ),
        },
    ),
    "key": Group(
        "API keys: who may do what, and how much.",
        {
            "create": Row(
                "commands.key:create", "Make a key and print it: it is never shown again."
            ),
            "list": Row(
                "commands.key:list_keys",
                "List the keys with their quotas, and what their endpoints hold now.",
            ),
            "show": Row(
                "commands.key:show",
                "Show a key: what it may do, its quota, and when it was used last.",
            ),
            "update": Row(
                "commands.key:update", "Change the name, the quota or the expiry of a key."
            ),
            "rotate": Row(
                "commands.key:rotate",
                "Give a key another secret and print it; what it owns and its quota stay.",
            ),
            "revoke": Row(
                "commands.key:revoke",
                "Let a key open nothing any more; endpoints that it has made stay, with its quota.",
            ),
        },
    ),
    "registry": Group(
        "Credentials of image registries, for pulls.",
        {
            "create": Row(
                "commands.registry:create",
                "Store the credentials of a registry; the password, or token, is never shown again.",
            ),
            "list": Row(
                "commands.registry:list_registry_auths", "List the credentials, without passwords."
            ),
            "show": Row("commands.registry:show", "Show credentials, without the password."),
            "delete": Row("commands.registry:delete", "Delete credentials that no endpoint names."),
        },
    ),
    "context": Group(
        "Contexts: names for the installations that you work with.",
        {
            "list": Row(
                "commands.context:list_contexts", "List the contexts; a star marks the current one."
            ),
            "show": Row("commands.context:show", "Show a context; never its key."),
            "add": Row("commands.context:add", "Add a context."),
            "use": Row(
                "commands.context:use",
                "Make a context the current one: what commands ask that name none.",
            ),
            "remove": Row(
                "commands.context:remove", "Forget a context, and the key that is stored in it."
            ),
        },
    ),
    "webhook": Group(
        "Webhooks: events sent to a URL, signed and tried again.",
        {
            "create": Row(
                "commands.webhook:create",
                "Have events sent to a URL, and print the secret that they are signed with.",
            ),
            "list": Row(
                "commands.webhook:list_webhooks", "List the webhooks and how their receivers do."
            ),
            "show": Row("commands.webhook:show", "Show a webhook and how its receiver does."),
            "update": Row(
                "commands.webhook:update",
                "Change, disable or enable a webhook; what is not named stays.",
            ),
            "delete": Row(
                "commands.webhook:delete",
                "Delete a webhook; what waits for it is not sent any more.",
            ),
            "rotate-secret": Row(
                "commands.webhook:rotate_secret", "Give a webhook another secret, and print it."
            ),
            "deliveries": Row(
                "commands.webhook:deliveries",
                "Show what became of a webhook's events, the newest first.",
            ),
            "redeliver": Row(
                "commands.webhook:redeliver",
                "Send an event again, and wait for what the receiver answers.",
            ),
            "test": Row(
                "commands.webhook:send_test",
                "Send an event that means nothing, and wait for what the receiver answers.",
            ),
        },
    ),
}
