//! KSM's settings: changed for a while, and put back whatever happens.

use std::fs;
use std::sync::Mutex;

const DIRECTORY: &str = "/sys/kernel/mm/ksm";
/// What is changed here, in the order in which it is put back: `run` last.
const CHANGED: [&str; 6] = [
    "advisor_mode",
    "pages_to_scan",
    "sleep_millisecs",
    "smart_scan",
    "use_zero_pages",
    "run",
];
/// `run`: stop; scan; take everything apart and forget it.
const STOP: &str = "0";
const SCAN: &str = "1";
const UNMERGE: &str = "2";

/// Settings as they were found, until they are put back.
static FOUND: Mutex<Vec<(&str, String)>> = Mutex::new(Vec::new());

/// Puts the settings back when it is dropped. A panic or Ctrl-C does it, too; nothing helps against SIGKILL.
#[derive(Debug)]
pub struct Settings(());

impl Settings {
    /// Notes the settings; the error says why KSM cannot be used.
    pub fn take() -> Result<Self, String> {
        if read("run").is_err() {
            return Err("this kernel has no KSM".into());
        }
        let in_use = ["pages_shared", "pages_sharing", "pages_unshared"].map(number);
        if number("run") == 1 || in_use.iter().any(|pages| *pages != 0) {
            return Err("KSM is in use on this machine, or has pages left over from then".into());
        }
        let mut found = Vec::new();
        for name in CHANGED {
            // Older kernels do not have all of them.
            let Ok(value) = read(name) else { continue };
            let value = chosen(&value).to_owned();
            write(name, &value).map_err(|error| format!("KSM's settings need root: {name}: {error}"))?;
            found.push((name, value));
        }
        *FOUND.lock().map_err(|_| "an earlier panic")? = found;
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            put_back();
            hook(panic);
        }));
        ctrlc::set_handler(|| {
            put_back();
            std::process::exit(130);
        })
        .map_err(|error| format!("no handler for Ctrl-C: {error}"))?;
        Ok(Self(()))
    }

    /// The whole of one processor, zero pages to the zero page, and as much as it likes at once; it looks at
    /// every page in every pass.
    pub fn use_full_speed(&self) -> Result<(), String> {
        if read("advisor_mode").is_ok() {
            set("advisor_mode", "none")?;
        }
        if read("smart_scan").is_ok() {
            set("smart_scan", "0")?;
        }
        set("use_zero_pages", "1")?;
        set("sleep_millisecs", "0")?;
        set("pages_to_scan", "2000")
    }

    /// Starts scanning where it was stopped.
    pub fn scan(&self) -> Result<(), String> {
        set("run", SCAN)
    }

    /// Stops scanning; returns when it has.
    pub fn stop(&self) -> Result<(), String> {
        set("run", STOP)
    }

    /// Forgets everything.
    pub fn clear(&self) -> Result<(), String> {
        set("run", UNMERGE)
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        put_back();
    }
}

fn put_back() {
    let Ok(mut found) = FOUND.lock() else { return };
    // Its records would outlive this process. Nobody else had any.
    if !found.is_empty()
        && let Err(error) = write("run", UNMERGE)
    {
        eprintln!("merge: KSM could not be cleared: {error}");
    }
    for (name, value) in found.drain(..) {
        if let Err(error) = write(name, &value) {
            eprintln!("merge: KSM's setting {name} could not be put back to {value}: {error}");
        }
    }
}

/// A counter of KSM; 0 where this kernel does not have it.
pub fn number(name: &str) -> u64 {
    read(name).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Changes a setting, unless all have been put back meanwhile.
fn set(name: &str, value: &str) -> Result<(), String> {
    let found = FOUND.lock().map_err(|_| "an earlier panic")?;
    if found.is_empty() {
        return Err("KSM's settings have been put back already".into());
    }
    write(name, value).map_err(|error| format!("KSM's setting {name} to {value}: {error}"))
}

fn read(name: &str) -> std::io::Result<String> {
    fs::read_to_string(format!("{DIRECTORY}/{name}")).map(|text| text.trim().to_owned())
}

fn write(name: &str, value: &str) -> std::io::Result<()> {
    fs::write(format!("{DIRECTORY}/{name}"), value)
}

/// A choice among several is shown as `[none] scan-time`.
fn chosen(value: &str) -> &str {
    match value.split_once('[').and_then(|(_, rest)| rest.split_once(']')) {
        Some((chosen, _)) => chosen,
        None => value,
    }
}
