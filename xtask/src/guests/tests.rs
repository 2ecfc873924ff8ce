//! Every mistake in a guests file gets a message with its line and with what is allowed.

use std::path::{Path, PathBuf};

use super::{Initramfs, Kernel, Merge, MergeConfig, Scenario, When, check};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(super) fn parse(text: &str) -> Result<Scenario, String> {
    let file = workspace().join("guest-tests/scenarios/x.toml");
    check::parse(text, &file, &workspace()).map_err(|(span, message)| {
        let line = span.map_or(0, |span| text[..span.start].matches('\n').count() + 1);
        format!("{line}: {message}")
    })
}

/// A good file in which one line is replaced.
pub(super) fn with(line: &str) -> String {
    let key = line.split('=').next().unwrap_or_default().trim();
    let good = ["name = \"a\"", "memory = \"64M\"", "kernel = \"test:hello\""];
    let mut text = String::from("[[guest]]\n");
    for good in good.iter().filter(|good| !good.starts_with(key)) {
        text.push_str(good);
        text.push('\n');
    }
    text + line + "\n"
}

#[track_caller]
pub(super) fn assert_mistake(text: &str, line: usize, parts: &[&str]) {
    let message = parse(text).expect_err("a mistake");
    assert!(
        message.starts_with(&format!("{line}: ")),
        "line {line} in: {message}"
    );
    for part in parts {
        assert!(message.contains(part), "`{part}` in: {message}");
    }
}

#[test]
fn a_full_file_is_read() {
    let text = r#"
        about = "x"
        [machine]
        memory = "64M"
        slice = "500us"
        [run]
        for = "1.5s"
        until = ["up"]
        [[guest]]
        name = "a"
        memory = "16M"
        kernel = "test:hello"
        [[guest]]
        name = "b"
        memory = "128M"
        kernel = "debian-cloud"
        domain = "shared"
        weight = 50
        [[script]]
        on = "b:up"
        command = "kill a"
        [[script]]
        at = "20ms"
        command = "stats"
        [expect]
        text = ["hello"]
        [expect.statistics]
        "/host/frames_guests" = { max = 5 }
        [expect.guest.a]
        state = "stopped"
        [expect.guest.b.measures]
        cpuid = { min = 1, max = 9 }
    "#;
    let scenario = parse(text).unwrap();
    assert_eq!(
        (scenario.machine.memory_mib, scenario.machine.slice_us),
        (64, 500)
    );
    assert_eq!(scenario.for_ms, Some(1500));
    assert_eq!(scenario.guests[0].kernel, Kernel::Test("hello".into()));
    assert_eq!(
        (&scenario.guests[0].initramfs, scenario.guests[0].domain.as_str()),
        (&Initramfs::None, "a")
    );
    assert_eq!(
        (&scenario.guests[1].initramfs, scenario.guests[1].weight),
        (&Initramfs::Workload, 50)
    );
    assert_eq!(
        scenario.script[0].when,
        When::Event {
            guest: "b".into(),
            event: "up".into()
        }
    );
    assert_eq!(scenario.script[1].when, When::Micros(20_000));
    let expect = scenario.expect.unwrap();
    assert_eq!(expect.guests["a"].state.as_deref(), Some("stopped"));
    assert_eq!(expect.guests["b"].measures["cpuid"].max, Some(9));
}

#[test]
fn merging_is_as_usual_unless_the_file_says_otherwise() {
    let usual = parse(&with("weight = 1")).unwrap();
    assert_eq!(
        (usual.merge, usual.guests[0].merge),
        (MergeConfig::default(), Merge::On)
    );
    let merge = |settings: &str| {
        let text = with("merge = \"off\"") + "[merge]\n" + settings;
        let scenario = parse(&text).unwrap();
        assert_eq!(scenario.guests[0].merge, Merge::Off);
        scenario.merge
    };
    let all = "enabled = false\npace = \"1.5M\"\nepoch = \"50ms\"\nsplit_at = \"40%\"\nhash_bits = 0\n";
    let expected = MergeConfig {
        is_on: false,
        pace: Some(1_500_000),
        epoch_us: 50_000,
        split_percent: 40,
        hash_bits: 0,
    };
    assert_eq!(merge(all), expected);
    assert_eq!(merge("pace = \"auto\"\n"), MergeConfig::default());
}

#[test]
fn mistakes_about_merging_say_what_is_allowed() {
    let merge = |setting: &str| with("weight = 1") + "[merge]\n" + setting + "\n";
    assert_mistake(&merge("pace = \"fast\""), 7, &["`fast`", "\"auto\"", "\"20M\""]);
    assert_mistake(&merge("pace = \"0\""), 7, &["\"1k\"", "\"100G\""]);
    assert_mistake(&merge("pace = 20"), 7, &["expected", "string"]);
    assert_mistake(&merge("epoch = \"0ms\""), 7, &["\"1ms\" to \"1m\""]);
    assert_mistake(&merge("epoch = \"2m\""), 7, &["\"1ms\" to \"1m\""]);
    assert_mistake(&merge("epoch = \"often\""), 7, &["`often` is no time"]);
    for wrong in ["25", "0%", "101%", "-1%", "1.5%", "%"] {
        let setting = format!("split_at = \"{wrong}\"");
        assert_mistake(&merge(&setting), 7, &[wrong, "\"1%\" to \"100%\""]);
    }
    assert_mistake(&merge("hash_bits = 33"), 7, &["33 bits", "0 to 32"]);
    assert_mistake(&merge("hash_bits = -1"), 7, &["0 to 32"]);
    assert_mistake(&merge("enabled = \"yes\""), 7, &["expected", "boolean"]);
    assert_mistake(&merge("speed = 1"), 7, &["speed", "split_at"]);
    assert_mistake(&with("merge = \"maybe\""), 5, &["`maybe`", "\"on\", \"off\""]);
}

#[test]
fn commands_can_be_repeated() {
    let script = |step: &str| with("weight = 1") + "[[script]]\n" + step + "\ncommand = \"stats\"\n";
    let when = |step: &str| parse(&script(step)).unwrap().script[0].when.clone();
    let every = |period_us, from_us| When::Every { period_us, from_us };
    assert_eq!(when("every = \"50ms\""), every(50_000, 50_000));
    assert_eq!(when("every = \"50ms\"\nfrom = \"2s\""), every(50_000, 2_000_000));
    assert_mistake(&script("every = \"10us\""), 7, &["10us", "\"1ms\" to \"60m\""]);
    assert_mistake(&script("every = \"2 h\""), 7, &["no time"]);
    assert_mistake(
        &script("every = \"1s\"\nat = \"2s\""),
        6,
        &["one of", "`every = "],
    );
    assert_mistake(&script("at = \"1s\"\nfrom = \"2s\""), 8, &["needs `every`"]);
    let steps = |count| {
        let step = |n| format!("[[script]]\non = \"a:event-{n}\"\ncommand = \"stats\"\n");
        (0..count).map(step).collect::<String>()
    };
    assert!(parse(&(with("weight = 1") + &steps(72))).is_ok());
    assert_mistake(
        &(with("weight = 1") + &steps(73)),
        222,
        &["more than 72 events of `a`"],
    );
    assert_mistake(
        &script("every = \"1s\"\nfrom = \"later\""),
        8,
        &["`later` is no time"],
    );
}

#[test]
fn unknown_keys_name_the_known_ones() {
    assert_mistake(
        &with("memroy = \"1M\""),
        5,
        &["memroy", "expected one of", "command_line"],
    );
    assert_mistake("[machine]\nram = \"1M\"\n", 2, &["ram", "wall_limit"]);
}

#[test]
fn values_say_what_is_allowed() {
    assert_mistake(&with("memory = \"128X\""), 4, &["128X", "\"128M\""]);
    assert_mistake(&with("memory = \"4095K\""), 4, &["multiples of 4 KiB"]);
    assert_mistake(&with("memory = \"4G\""), 4, &["\"3G\""]);
    assert_mistake(&with("weight = 0"), 5, &["1 to 10000"]);
    assert_mistake(&with("weight = -3"), 5, &["1 to 10000"]);
    assert_mistake(&with("pages = \"giant\""), 5, &["\"small\", \"large\", \"huge\""]);
    assert_mistake(&with("on_reboot = \"again\""), 5, &["\"stop\", \"restart\""]);
    assert_mistake(&with("start = \"never\""), 5, &["\"now\", \"later\""]);
    assert_mistake(&with("name = \"a b\""), 4, &["letters, digits"]);
    assert_mistake(&with("weight = \"much\""), 5, &["expected", "i64"]);
}

#[test]
fn kernels_and_ram_disks_must_exist() {
    assert_mistake(
        &with("kernel = \"debian\""),
        4,
        &["\"debian-cloud\"", "\"test:<name>\""],
    );
    assert_mistake(&with("kernel = \"test:none-such\""), 4, &["there are:", "hello"]);
    assert_mistake(
        &with("kernel = \"test:../hello\""),
        4,
        &["there is no test kernel"],
    );
    assert_mistake(&with("kernel = \"./none\""), 4, &["there is no file"]);
    assert_mistake(
        &with("initramfs = \"big\""),
        5,
        &["\"workload\", \"disk\", \"none\""],
    );
}

#[test]
fn names_refer_to_guests_that_exist_once() {
    assert_mistake(
        &(with("weight = 1") + &with("weight = 1")),
        7,
        &["two guests named `a`"],
    );
    let script = |step: &str| with("weight = 1") + "[[script]]\n" + step + "\ncommand = \"stats\"\n";
    assert_mistake(&script("on = \"b:up\""), 7, &["no guest `b`", "there are: a"]);
    assert_mistake(&script("on = \"up\""), 7, &["guest:event"]);
    assert_mistake(&script("at = \"soon\""), 7, &["\"1.5s\""]);
    assert_mistake(&script("at = \"1s\"\non = \"a:up\""), 6, &["one of", "`at = "]);
    assert_mistake(&(with("weight = 1") + "[expect.guest.b]\n"), 6, &["no guest `b`"]);
}

#[test]
fn machines_and_expectations_are_checked() {
    let text = |rest: &str| with("weight = 1") + rest;
    assert_mistake(&text("[machine]\nmemory = \"4G\"\n"), 7, &["\"2048M\""]);
    assert_mistake(
        &text("[machine]\nprocessor = \"i486\"\n"),
        7,
        &["corei7_skylake_x"],
    );
    assert_mistake(&text("[machine]\nkind = \"vmware\"\n"), 7, &["\"bochs\""]);
    assert_mistake(&text("[machine]\nslice = \"1us\"\n"), 7, &["\"100us\""]);
    assert_mistake(&text("[expect]\noutcome = \"good\"\n"), 7, &["\"cannot-run\""]);
    assert_mistake(&text("[expect]\nregex = [\"(\"]\n"), 7, &["no pattern"]);
    assert_mistake(
        &text("[expect.statistics]\n\"host\" = { max = 1 }\n"),
        7,
        &["no path"],
    );
    assert_mistake(
        &text("[expect.statistics]\n\"/host\" = {}\n"),
        7,
        &["`min`, `max` and `equals`"],
    );
    assert_mistake("[machine]\nmemory = \"64M\"\n", 0, &["there is no guest"]);
    assert_mistake("[[guest]\n", 1, &[]);
}

/// The files that come with the project are good.
#[test]
fn all_scenarios_of_the_workspace_are_read() {
    let root = workspace();
    let mut count = 0;
    for entry in std::fs::read_dir(root.join("guest-tests/scenarios")).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|ending| ending == "toml") {
            check::read(&file, &file.display().to_string(), &root).unwrap();
            count += 1;
        }
    }
    assert!(count > 0);
}

#[test]
fn nobody_gets_into_the_domain_of_a_guest_that_is_to_be_alone() {
    let guests = |first: &str, second: &str| {
        format!(
            "[[guest]]\nname = \"web\"\nmemory = \"8M\"\nkernel = \"test:hello\"\n{first}\n\
             [[guest]]\nname = \"b\"\nmemory = \"8M\"\nkernel = \"test:hello\"\n{second}\n"
        )
    };
    let web = "domain = \"web\"";
    assert_mistake(&guests("", web), 10, &["`web`", "alone", "domain = \"web\""]);
    assert!(parse(&guests(web, web)).is_ok());
    assert!(parse(&guests("domain = \"db\"", web)).is_ok());
}
