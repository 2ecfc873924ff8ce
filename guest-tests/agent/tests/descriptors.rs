//! The agent without a descriptor left: alone in its process, because all of it suffers.

use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use pleat_agent::daemon::Daemon;
use pleat_agent::places;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn a_newcomer_that_cannot_be_taken_keeps_nobody_busy() {
    let directory = std::env::temp_dir().join(format!("pleat-descriptors-{}", std::process::id()));
    let none = || Err::<File, _>(io::ErrorKind::NotFound.into());
    let mut daemon = Daemon::new(&directory, none).unwrap();
    let newcomer = UnixStream::connect(places::socket(&directory)).unwrap();
    let maximum = getrlimit(Resource::Nofile).maximum;
    let few = Rlimit {
        current: Some(64),
        maximum,
    };
    setrlimit(Resource::Nofile, few).unwrap();
    let taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    let began = Instant::now();
    let mut turns = 0;
    while began.elapsed() < Duration::from_millis(300) {
        daemon.turn(Some(Duration::from_millis(100))).unwrap();
        turns += 1;
    }
    assert!(turns <= 10, "{turns} turns");
    assert_eq!(daemon.connections(), 0);
    drop(taken);
    while daemon.connections() == 0 {
        assert!(began.elapsed() < Duration::from_secs(20));
        daemon.turn(Some(Duration::from_millis(100))).unwrap();
    }
    drop(newcomer);
    drop(daemon);
    std::fs::remove_dir_all(&directory).unwrap();
}
