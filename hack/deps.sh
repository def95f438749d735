#!/bin/sh
# Installs, by name, the Debian packages that the tests and the demo's real guest use.
set -eu
want="qemu-system-x86 qemu-utils seabios cpio kmod nbdkit libnbd-bin python3-libnbd fio fuse3 e2fsprogs gnutls-bin socat jq curl openssl mount gcc libc6-dev postgresql iproute2"
missing=""
for p in $want; do
  dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q '^install ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
echo "installing:$missing"
if [ "$(id -u)" -eq 0 ]; then sudo=""; else sudo="sudo"; fi
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
