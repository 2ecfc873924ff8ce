//! What a Linux guest does: a small workload that checks itself, then a shell.
//!
//! The checksums are computed here, on the host, from the same generators. A guest that reads one wrong
//! byte, from its files or from another guest's memory, cannot come to the same values.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// Lines of the counted file.
const COUNTED_LINES: u32 = 20_000;
/// Bytes of the repeated file.
const REPEATED_BYTES: usize = 384 * 1024;
/// The repeated line.
const REPEATED_LINE: &str = "pleat folds memory";
/// Times a program is started.
const STARTS: u32 = 20;
/// Links of the chain of checksums, each made by a process of its own.
const CHAIN_LINKS: u32 = 8;

/// The init script.
pub const INIT: &str = r#"#!/bin/sh
# Init of the RAM disk: report, mount, work, then a shell for whoever sits at the console.
echo "pleat-event: up"
export PATH=/bin HOME=/root TERM=vt102
/bin/busybox --install -s /bin
mount -t devtmpfs none /dev
mount -t proc none /proc
mount -t sysfs none /sys
mount -t tmpfs none /tmp
. /lib/drivers
# On the kernel's command line: pleat.work=no leaves the work out, pleat.then=poweroff or reboot ends,
# pleat.shell=hvc0 puts the shell there, pleat.programs=yes says that the disk has programs.
work=yes then=shell shell=ttyS0 programs=no
for word in $(cat /proc/cmdline); do
    case $word in
        pleat.work=*) work=${word#*=} ;;
        pleat.then=*) then=${word#*=} ;;
        pleat.shell=*) shell=${word#*=} ;;
        pleat.programs=*) programs=${word#*=} ;;
    esac
done
# Programs look for their parts below /usr, and for the C library in two places more.
if [ "$programs" = yes ]; then
    mkdir /disk
    mount -t ext4 -o ro /dev/vda /disk || echo "pleat-event: disk-failed"
    ln -s /disk/usr /usr
    ln -s /disk/usr/lib64 /lib64
    ln -s /disk/usr/lib/x86_64-linux-gnu /lib/
fi
if [ "$work" = yes ]; then
    if workload; then
        echo "pleat-event: work-ok"
    else
        echo "pleat-event: work-failed"
    fi
fi
case $then in
    poweroff) poweroff -f ;;
    reboot) reboot -f ;;
esac
echo "$shell::respawn:-/bin/sh" >>/etc/inittab
# init is process 1: it hands over to busybox's, which reaps orphans and respawns the shell.
exec busybox init
"#;

/// The table of busybox's init: what happens at the end. Init adds a shell that comes back.
pub const INITTAB: &str = "::ctrlaltdel:/bin/reboot
::shutdown:/bin/umount -a -r
";

/// The workload with the checksums it has to reproduce.
#[must_use]
pub fn script() -> String {
    let mut script = String::from(
        "#!/bin/sh\n# Forks, file writes in tmpfs and checksums that were computed on another machine.\n\
         fail() { echo \"workload: $1\"; exit 1; }\n\
         check() { [ \"$(sha256sum \"$1\" | cut -d' ' -f1)\" = \"$2\" ] || fail \"checksum of $1 is wrong\"; }\n\
         cd /tmp || fail 'no tmpfs'\n",
    );
    let counted = checksum(counted().as_bytes());
    let repeated = checksum(&repeated());
    // Writing to a String cannot fail.
    let mut line = |text: String| writeln!(script, "{text}").unwrap_or_default();
    line(format!("seq 1 {COUNTED_LINES} >counted"));
    line(format!(
        "yes '{REPEATED_LINE}' | head -c {REPEATED_BYTES} >repeated"
    ));
    line(format!("check counted {counted}\ncheck repeated {repeated}"));
    line(format!(
        "i=0; while [ $i -lt {STARTS} ]; do busybox true || fail 'cannot start a program'; i=$((i + 1)); done"
    ));
    line(format!("h=pleat; i=0; while [ $i -lt {CHAIN_LINKS} ]; do"));
    line("    h=$(echo $h | sha256sum | cut -d' ' -f1); i=$((i + 1))\ndone".to_owned());
    line(format!(
        "[ \"$h\" = {} ] || fail 'the chain of checksums is wrong'",
        chain()
    ));
    line(
        "for n in 1 2 3; do cp counted counted.$n && cp repeated repeated.$n || fail 'cannot copy'; done"
            .to_owned(),
    );
    line("for n in 1 2 3; do cmp counted counted.$n && cmp repeated repeated.$n || fail 'a copy differs'; done".to_owned());
    line("rm counted repeated repeated.1".to_owned());
    line(format!("check counted.3 {counted}\ncheck repeated.2 {repeated}"));
    line("rm counted.* repeated.*".to_owned());
    script
}

fn counted() -> String {
    (1..=COUNTED_LINES).map(|number| format!("{number}\n")).collect()
}

fn repeated() -> Vec<u8> {
    format!("{REPEATED_LINE}\n")
        .into_bytes()
        .into_iter()
        .cycle()
        .take(REPEATED_BYTES)
        .collect()
}

fn chain() -> String {
    (0..CHAIN_LINKS).fold("pleat".to_owned(), |link, _| {
        checksum(format!("{link}\n").as_bytes())
    })
}

fn checksum(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{checksum, script};

    #[test]
    fn checksums_are_sha256_in_hexadecimal() {
        assert_eq!(
            checksum(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    /// The script itself, run by this machine's shell and tools: the generators agree with ours.
    #[test]
    fn the_workload_succeeds_where_memory_is_right_and_fails_where_it_is_not() {
        let run = |text: &str| {
            let directory = std::env::temp_dir().join(format!("pleat-workload-{}", std::process::id()));
            std::fs::create_dir_all(&directory).unwrap();
            let text = text
                .replace("cd /tmp ", &format!("cd {} ", directory.display()))
                .replace("busybox true", "true");
            let status = std::process::Command::new("sh")
                .args(["-c", &text])
                .status()
                .unwrap();
            std::fs::remove_dir_all(&directory).unwrap();
            status.success()
        };
        let good = script();
        assert!(run(&good));
        assert!(!run(&good.replace(
            "rm counted repeated",
            "echo x >>counted.3; rm counted repeated"
        )));
    }
}
