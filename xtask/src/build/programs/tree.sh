#!/bin/sh
# Lays the files of the packages $DEBS, a path a line, below $WORK/root and packs them as $WORK/root.tar. Runs as root, or
# as what fakeroot makes look like it, so that owners are right. No script of a package runs.
set -eu
root=$WORK/root
mkdir "$root"
# As on an installed system, all is below /usr, whichever place a package names.
for place in bin sbin lib lib64; do
    mkdir -p "$root/usr/$place"
    ln -s "usr/$place" "$root/$place"
done
# What no program reads here stays out: an image lies in the machine's memory.
printf '%s\n' "$DEBS" | while IFS= read -r deb; do
    echo "${deb##*/}"
    dpkg-deb --fsys-tarfile "$deb" | tar -xpf - -C "$root" --keep-directory-symlink \
        --exclude='./usr/share/doc' --exclude='./usr/share/man' --exclude='./usr/share/info' \
        --exclude='./usr/share/locale' --exclude='./usr/share/lintian' --exclude='./usr/lib/x86_64-linux-gnu/gconv'
done
tar --numeric-owner --sort=name -C "$root" -cf "$WORK/root.tar" .
