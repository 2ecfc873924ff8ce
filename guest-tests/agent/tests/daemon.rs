//! The agent with a socket pair as its port, and real subscribers.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pleat_agent::client::{self, Subscription, Woken};
use pleat_agent::daemon::{Daemon, MAX_SUBSCRIBERS};
use pleat_agent::message::{Level, Pressure};
use pleat_agent::{places, subscriber};

type Opener = Box<dyn FnMut() -> io::Result<File>>;

/// An agent, its directory, and the host's side of its port.
struct Setup {
    daemon: Daemon<Opener>,
    directory: PathBuf,
    host: UnixStream,
}

impl Drop for Setup {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn directory() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("pleat-agent-{}-{number}", std::process::id()))
}

fn port() -> (UnixStream, File) {
    let (host, guest) = UnixStream::pair().unwrap();
    host.set_nonblocking(true).unwrap();
    guest.set_nonblocking(true).unwrap();
    (host, File::from(OwnedFd::from(guest)))
}

/// An agent whose ports are these, one after the other.
fn with_ports(ports: Vec<File>) -> (Daemon<Opener>, PathBuf) {
    let directory = directory();
    let mut ports = ports.into_iter();
    let open = move || ports.next().ok_or_else(|| io::ErrorKind::NotFound.into());
    (
        Daemon::new(&directory, Box::new(open) as Opener).unwrap(),
        directory,
    )
}

fn setup() -> Setup {
    let (host, guest) = port();
    let (daemon, directory) = with_ports(vec![guest]);
    Setup {
        daemon,
        directory,
        host,
    }
}

impl Setup {
    /// Lets the agent do what there is to do.
    fn settle(&mut self) {
        for _ in 0..4 {
            self.daemon.turn(Some(Duration::from_millis(2))).unwrap();
        }
    }

    fn say(&mut self, text: &str) {
        self.host.write_all(text.as_bytes()).unwrap();
        self.settle();
    }

    fn heard(&mut self) -> String {
        let mut text = [0; 4096];
        let count = self.host.read(&mut text).unwrap_or(0);
        String::from_utf8_lossy(&text[..count]).into_owned()
    }

    /// Subscribes from another thread, since the agent has to answer meanwhile.
    fn subscribe(&mut self, level: Level) -> (Subscription, Pressure) {
        let directory = self.directory.clone();
        let subscriber = std::thread::spawn(move || Subscription::open(&directory, level));
        while !subscriber.is_finished() {
            self.settle();
        }
        subscriber.join().unwrap().unwrap()
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(places::socket(&self.directory)).unwrap()
    }
}

fn was_woken(subscription: &Subscription) -> bool {
    subscription.wait(Some(Duration::ZERO)).unwrap() == Woken::Pressure
}

#[test]
fn the_agent_says_hello_and_keeps_the_level() {
    let mut setup = setup();
    assert_eq!(
        fs::read_to_string(places::level(&setup.directory)).unwrap(),
        "pressure none free=0 wanted=0\n"
    );
    setup.settle();
    assert_eq!(
        setup.heard(),
        format!("hello pleat-agent {}\n", env!("CARGO_PKG_VERSION"))
    );
    setup.say("pressure some free=2048 wanted=7\n");
    let expected = Pressure {
        level: Level::Some,
        free_kib: 2048,
        wanted_kib: 7,
    };
    assert_eq!(client::current(&setup.directory).unwrap(), expected);
    setup.say("pressure\n\u{7f}\0\npressure full free=x\nxxxx pressure none\n");
    setup.host.write_all(&vec![b'A'; 5000]).unwrap();
    setup.host.write_all(b"\xff\xff\npressure fu").unwrap();
    setup.settle();
    assert_eq!(setup.daemon.current(), expected);
    setup.say("ll free=1 wanted=9\n");
    assert_eq!(setup.daemon.current().level, Level::Full);
}

#[test]
fn subscribers_are_woken_at_their_level_when_it_rises_or_is_told_again() {
    let mut setup = setup();
    let (some, level) = setup.subscribe(Level::Some);
    assert_eq!(level.level, Level::None);
    let (full, _) = setup.subscribe(Level::Full);
    let mut told = |line: &str| {
        setup.say(line);
        (was_woken(&some), was_woken(&full))
    };
    assert_eq!(told("pressure some free=9 wanted=1\n"), (true, false));
    assert_eq!(told("pressure some free=8 wanted=1\n"), (true, false), "again");
    assert_eq!(told("pressure full free=1 wanted=1\n"), (true, true));
    assert_eq!(told("pressure some free=5 wanted=1\n"), (false, false), "it fell");
    assert_eq!(told("pressure none free=50 wanted=0\n"), (false, false));
    assert_eq!(
        told("pressure some free=5 wanted=1\npressure none free=9 wanted=0\n"),
        (true, false)
    );
    setup.say("pressure full free=1 wanted=1\n");
    let (late, level) = setup.subscribe(Level::Full);
    assert_eq!(level.level, Level::Full);
    assert!(was_woken(&late), "it is at that level already");
    assert!(!was_woken(&late));
}

#[test]
fn what_subscribers_gave_back_reaches_the_host() {
    let mut setup = setup();
    let (subscription, _) = setup.subscribe(Level::Some);
    setup.heard();
    subscription.report_collected(12).unwrap();
    subscription.report_collected(30).unwrap();
    setup.settle();
    let told: u64 = setup
        .heard()
        .lines()
        .map(|line| line.strip_prefix("collected ").unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(told, 42);
}

#[test]
fn who_is_gone_or_talks_nonsense_leaves_no_trace() {
    let mut setup = setup();
    let (subscription, _) = setup.subscribe(Level::Some);
    let mut nonsense = setup.connect();
    nonsense.write_all(b"subscribe everything\n").unwrap();
    setup.settle();
    assert_eq!(setup.daemon.connections(), 1);
    let mut answer = String::new();
    nonsense.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "");
    drop(subscription);
    setup.settle();
    assert_eq!(setup.daemon.connections(), 0);
}

#[test]
fn places_are_limited_and_a_silent_newcomer_loses_its_own() {
    let mut setup = setup();
    let silent: Vec<UnixStream> = (0..MAX_SUBSCRIBERS)
        .map(|_| {
            let connection = setup.connect();
            setup.settle();
            connection
        })
        .collect();
    assert_eq!(setup.daemon.connections(), MAX_SUBSCRIBERS);
    let mut surplus = setup.connect();
    setup.settle();
    let mut answer = String::new();
    surplus.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "full\n");
    std::thread::sleep(subscriber::PATIENCE);
    setup.settle();
    assert_eq!(setup.daemon.connections(), 0);
    drop(silent);
    setup.subscribe(Level::Some);
}

/// Wake-ups that nobody reads, answers that nobody takes, floods of requests: nothing of that keeps others waiting.
#[test]
fn nobody_is_kept_waiting_by_another() {
    let mut setup = setup();
    let (deaf, _) = setup.subscribe(Level::Some);
    // A descriptor whose counter is full, and on which writing waits: its flags are shared with the agent.
    rustix::io::write(deaf.event(), &(u64::MAX - 1).to_ne_bytes()).unwrap();
    rustix::fs::fcntl_setfl(deaf.event(), rustix::fs::OFlags::empty()).unwrap();
    let mut flood = setup.connect();
    flood.set_nonblocking(true).unwrap();
    while flood.write(b"subscribe some\n").is_ok() {}
    let (good, _) = setup.subscribe(Level::Some);
    let began = Instant::now();
    for _ in 0..100 {
        setup.say("pressure some free=1 wanted=1\n");
        assert!(was_woken(&good));
    }
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn the_port_may_come_late_and_go_and_come_back() {
    let (first_host, first) = port();
    let (mut host, second) = port();
    let mut ports = vec![Err(io::ErrorKind::NotFound.into()), Ok(first), Ok(second)].into_iter();
    let directory = directory();
    let open = move || ports.next().unwrap_or(Err(io::ErrorKind::NotFound.into()));
    let daemon = Daemon::new(&directory, Box::new(open) as Opener).unwrap();
    let mut setup = Setup {
        daemon,
        directory,
        host: first_host,
    };
    let until = |setup: &mut Setup, is_done: &dyn Fn(&mut Setup) -> bool| {
        let began = Instant::now();
        while !is_done(setup) {
            assert!(began.elapsed() < Duration::from_secs(10));
            setup.settle();
        }
    };
    let (subscription, _) = setup.subscribe(Level::Some);
    until(&mut setup, &|setup| setup.heard().starts_with("hello"));
    setup.say("pressure full free=1 wanted=1\n");
    assert!(was_woken(&subscription));
    std::mem::swap(&mut setup.host, &mut host);
    drop(host);
    until(&mut setup, &|setup| setup.heard().starts_with("hello"));
    assert_eq!(
        setup.daemon.current(),
        Pressure::default(),
        "nobody says so any more"
    );
    setup.say("pressure some free=1 wanted=1\n");
    assert!(was_woken(&subscription), "the subscription outlives the port");
}

#[test]
fn a_second_agent_does_not_take_the_place_of_the_first() {
    let setup = setup();
    let none = || Err(io::ErrorKind::NotFound.into());
    let error = Daemon::new(&setup.directory, none).err().unwrap().to_string();
    assert!(error.contains("another agent"), "{error}");
}

#[test]
fn without_an_agent_the_message_says_what_to_do() {
    let nowhere = directory();
    let error = Subscription::open(&nowhere, Level::Some).unwrap_err();
    assert!(error.to_string().contains("pleat-agent run"), "{error}");
    assert!(client::current(&nowhere).is_err());
}

/// Where nothing can be written (here a directory stands where the file is to be), who subscribed is woken all the same.
#[test]
fn a_level_that_cannot_be_written_ends_nothing() {
    let mut setup = setup();
    let (subscription, _) = setup.subscribe(Level::Some);
    let path = places::level(&setup.directory);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    setup.say("pressure some free=1 wanted=1\n");
    assert!(was_woken(&subscription));
    fs::remove_dir(&path).unwrap();
    setup.say("pressure full free=1 wanted=1\n");
    assert!(was_woken(&subscription));
    assert_eq!(client::current(&setup.directory).unwrap().level, Level::Full);
}

#[test]
fn files_are_for_root_and_its_group_and_go_with_the_agent() {
    let mut setup = setup();
    setup.say("pressure some free=1 wanted=1\n");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (level, socket) = (places::level(&setup.directory), places::socket(&setup.directory));
    assert_eq!((mode(&level), mode(&socket)), (0o640, 0o660));
    assert_eq!(mode(&setup.directory) & 0o027, 0, "nothing for others");
    let none = || Err(io::ErrorKind::NotFound.into());
    setup.daemon = Daemon::new(&directory(), Box::new(none) as Opener).unwrap();
    assert!(!level.exists() && !socket.exists());
    assert!(client::ask(&setup.directory).is_err());
}

#[test]
fn who_asks_hears_what_holds() {
    let mut setup = setup();
    setup.say("pressure full free=8 wanted=4\n");
    let directory = setup.directory.clone();
    let asked = std::thread::spawn(move || client::ask(&directory));
    while !asked.is_finished() {
        setup.settle();
    }
    assert_eq!(asked.join().unwrap().unwrap(), setup.daemon.current());
}
