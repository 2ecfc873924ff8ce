#!/bin/sh
# Makes a small Debian root below $WORK/root and packs it as $WORK/root.tar. Runs as root, or as what fakeroot
# makes look like it; debootstrap is told where its parts lie because it is unpacked, not installed.
set -eu
root=$WORK/root

# The preloaded library of fakeroot: programs of the new system have to find it where it lies in ours.
if [ -n "$FAKEROOT_LIBRARY" ]; then
    mkdir -p "$root${FAKEROOT_LIBRARY%/*}"
    cp "$FAKEROOT_LIBRARY" "$root$FAKEROOT_LIBRARY"
fi

# debootstrap asks for device nodes that no user namespace gives; it knows containers in which they are there.
container=lxc sh "$DEBOOTSTRAP" --variant=minbase --include="$PACKAGES" --cache-dir="$CACHE" \
    --keyring="$KEYRING" "$SUITE" "$root" "$MIRROR"

cd "$root"
if [ -n "$FAKEROOT_LIBRARY" ]; then
    rm "$root$FAKEROOT_LIBRARY"
    library=${FAKEROOT_LIBRARY#/}
    rmdir -p --ignore-fail-on-non-empty "${library%/*}"
    mkdir -p home mnt opt srv # of Debian's, and empty: gone if our directory lies below one of them
fi

echo pleat >etc/hostname
printf '127.0.0.1 localhost pleat\n' >etc/hosts
printf '/dev/vda / ext4 defaults,noatime 0 0\n' >etc/fstab
printf 'deb http://deb.debian.org/debian %s main\n' "$SUITE" >etc/apt/sources.list
# Root logs in without a password: nobody else is there, and what is written is gone with the guest.
sed -i 's/^root:[^:]*:/root::/' etc/shadow

# Nothing is started that a guest without network and without hardware to look for has no use for.
cat >etc/inittab <<'TABLE'
id:2:initdefault:
si::sysinit:/etc/init.d/pleat-start
co:2:respawn:/etc/init.d/pleat-login
ca::ctrlaltdel:/sbin/shutdown -r now
en:06:wait:/etc/init.d/pleat-stop
TABLE
cat >etc/init.d/pleat-start <<'START'
#!/bin/sh
# What has to be done before somebody can log in. The RAM disk has mounted /dev, /proc, /sys and the root.
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /run
mkdir -p /dev/pts /dev/shm /run/lock
mount -t devpts -o mode=620,gid=5 devpts /dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /dev/shm
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /tmp
read -r name </etc/hostname && echo "$name" >/proc/sys/kernel/hostname
: >/run/utmp
START
cat >etc/init.d/pleat-login <<'LOGIN'
#!/bin/sh
# A login where the kernel's command line says that somebody sits.
console=ttyS0
read -r line </proc/cmdline
for word in $line; do
    case $word in
        pleat.shell=*) console=${word#*=} ;;
    esac
done
exec /sbin/agetty --noclear "$console" 38400 vt102
LOGIN
cat >etc/init.d/pleat-stop <<'STOP'
#!/bin/sh
# Runlevels 0 and 6.
mount -o remount,ro /
case $RUNLEVEL in
    0) halt -f -p ;;
    6) reboot -f ;;
esac
STOP
chmod 755 etc/init.d/pleat-*

# What nobody reads on such a machine. dpkg is told, so that packages installed later leave it out as well.
cat >etc/dpkg/dpkg.cfg.d/pleat <<'LEAVE'
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/man/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/lintian/*
LEAVE
for place in doc man info locale lintian bash-completion; do rm -rf "usr/share/$place"/*; done
rm -rf usr/lib/x86_64-linux-gnu/gconv var/lib/apt/lists/* var/cache/apt/* var/cache/debconf/*-old \
    var/lib/dpkg/*-old var/log/*.log var/log/apt/* debootstrap
find usr/share/zoneinfo -mindepth 1 -maxdepth 1 ! -name UTC ! -name Etc -exec rm -rf {} +
mkdir -p var/lib/apt/lists/partial var/cache/apt/archives/partial

# Devices come from the kernel (devtmpfs); the places that are mounted over stay empty.
rm -rf dev proc sys run tmp
mkdir -m 755 dev proc sys run
mkdir -m 1777 tmp
tar --numeric-owner --sort=name -cf "$WORK/root.tar" .
