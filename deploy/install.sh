#!/bin/sh
# Installs every part of Penstock under /out, for deploy/Dockerfile to pick one from.
#
# /out/PART/penstock   what the part needs from others, versions and hashes as in requirements.lock
# /out/PART/members    Penstock's own packages
#
# They are made to lie in /opt/penstock and /opt/penstock-members. With wheels in deploy/wheels
# (`make wheels`) nothing is downloaded; else they come from PIP_INDEX_URL.
set -eu
cd /src
# The same bytes whenever they are made: the engine recognises a layer that it has.
export SOURCE_DATE_EPOCH=315532800
wheels=deploy/wheels
tool=/tmp/uv

# uv itself comes as the lock file says.
if ls "$wheels"/uv-*.whl >/dev/null 2>&1; then
    wheel=$(ls "$wheels"/uv-*.whl)
    hash=$(sha256sum "$wheel" | cut -d' ' -f1)
    grep -q "sha256:$hash" requirements.lock || { echo "$wheel is not the locked one" >&2; exit 1; }
    python3 -m zipfile -e "$wheel" "$tool"
    uv=$(echo "$tool"/uv-*.data/scripts/uv)
    chmod +x "$uv"
    source="--no-index --find-links $wheels"
else
    sed -n '/^uv==/,/[^\\]$/p' requirements.lock >/tmp/uv.lock
    python3 -m pip install --quiet --no-deps --require-hashes --target "$tool" -r /tmp/uv.lock
    uv=$tool/bin/uv
    source=${PIP_INDEX_URL:+--default-index $PIP_INDEX_URL}
fi

# A constraint with hashes is held by its hash (--verify-hashes).
install() { "$uv" --quiet pip install --link-mode copy --verify-hashes "$@"; }
make_venv() { "$uv" --quiet venv --no-python-downloads --python "$(command -v python3)" "$1"; }

make_venv /tmp/builder
# shellcheck disable=SC2086 - several words, or none
install $source --python /tmp/builder/bin/python -c requirements.lock hatchling
for folder in libs/* services/* cli; do
    (cd "$folder" && /tmp/builder/bin/python -m hatchling build -t wheel -d /tmp/members >/tmp/log 2>&1) ||
        { cat /tmp/log >&2; exit 1; }
done

for part in api scheduler router node-agent cli; do
    make_venv /opt/penstock
    python3 deploy/third_party.py "$part" >/tmp/third-party.txt
    # shellcheck disable=SC2086
    install $source --compile-bytecode --python /opt/penstock/bin/python \
        -c requirements.lock -r /tmp/third-party.txt
    members=$(python3 deploy/third_party.py --members "$part" | tr - _ | sed 's|.*|/tmp/members/&-*.whl|')
    # shellcheck disable=SC2086
    install --no-index --no-deps --compile-bytecode --python /opt/penstock/bin/python \
        --target /opt/penstock-members $members
    # Which Python the folders are for is known only here.
    echo /opt/penstock-members >"$(echo /opt/penstock/lib/python3.*/site-packages)/penstock.pth"
    mkdir -p "/out/$part"
    mv /opt/penstock "/out/$part/penstock"
    mv /opt/penstock-members "/out/$part/members"
done
