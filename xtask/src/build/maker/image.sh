#!/bin/sh
# Makes an ext4 image of $BYTES bytes out of $TAR, with room for $SPARE_FILES more files. Runs as root, or as what fakeroot makes look like it, so that
# owners are right; nothing is mounted.
set -eu
files=$(tar -tf "$TAR" | wc -l)
mkdir "$WORK/root"
tar --numeric-owner -xpf "$TAR" -C "$WORK/root"
truncate -s "$BYTES" "$WORK/image"
# No journal: the disk is gone with the guest. No checksums of metadata: they cost a guest instructions. All
# metadata in front and no copies of the superblock further back: the rest of the image is zeros, and is not kept.
E2FSPROGS_FAKE_TIME=1 mke2fs -q -F -t ext4 -b 4096 -I 256 -N "$((files + SPARE_FILES))" -m 0 -L pleat-root \
    -U 706c6561-7400-4000-8000-64656269616e \
    -O ^has_journal,^resize_inode,^metadata_csum,^64bit,sparse_super2 \
    -E packed_meta_blocks=1,num_backup_sb=0,lazy_itable_init=0,hash_seed=706c6561-7400-4000-8000-64656269616e \
    -d "$WORK/root" "$WORK/image"
