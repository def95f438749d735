#!/bin/sh
# Makes the small Linux guest of tests and demo in cache/guest: Debian's cloud
# kernel, fetched by package name, and our own /init. Does nothing where QEMU or
# apt are missing: the demo then runs its built-in guest.
set -eu
cd "$(dirname "$0")/.."
out=cache/guest
for tool in qemu-system-x86_64 apt-get dpkg-deb cpio mkfs.ext4; do
  command -v "$tool" >/dev/null 2>&1 || { echo "no $tool: the demo will use its built-in guest"; exit 0; }
done
mkdir -p "$out"
# The driver of the disks, in the order in which it is loaded.
modules="virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk"
if [ ! -f "$out/vmlinuz" ] || [ ! -d "$out/modules" ]; then
  tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
  pkg() { apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends: linux-image/{print $2; exit}'; }
  p=$(pkg); [ -n "$p" ] || { apt-get update -qq || true; p=$(pkg); }
  [ -n "$p" ] || { echo "no kernel package to be had: the demo will use its built-in guest"; exit 0; }
  (cd "$tmp" && apt-get download -qq "$p" >log 2>&1 && dpkg-deb -x "$p"_*.deb k) || {
    cat "$tmp/log"; echo "the kernel package cannot be fetched: the demo will use its built-in guest"; exit 0; }
  rm -rf "$out/modules" "$out/modules.new" && mkdir "$out/modules.new"
  i=0
  for m in $modules; do
    i=$((i + 1))
    cp "$(find "$tmp/k" -name "$m.ko")" "$out/modules.new/$i-$m.ko"
  done
  cp "$tmp"/k/boot/vmlinuz-* "$out/vmlinuz.new" && mv "$out/vmlinuz.new" "$out/vmlinuz"
  mv "$out/modules.new" "$out/modules"
fi
tmp2=$(mktemp -d); trap 'rm -rf "${tmp:-}" "$tmp2"' EXIT
mkdir -p "$tmp2/proc" "$tmp2/dev" "$tmp2/mnt"
cp -r "$out/modules" "$tmp2/modules"
CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o "$tmp2/init" ./site/local/guestinit
[ -e "$tmp2/dev/console" ] || mknod "$tmp2/dev/console" c 5 1 2>/dev/null || true
(cd "$tmp2" && find . | cpio -o -H newc --quiet) | gzip -1 > "$out/initrd.new" && mv "$out/initrd.new" "$out/initrd.gz"
echo "guest: $out"
