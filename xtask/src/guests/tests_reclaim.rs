//! Settings for reclaim.

use super::tests::{assert_mistake, parse, with};
use pleat_bundle::config::ReclaimConfig;

#[test]
fn reclaim_is_as_usual_unless_the_file_says_otherwise() {
    assert_eq!(
        parse(&with("weight = 1")).unwrap().reclaim,
        ReclaimConfig::default()
    );
    let all = "[reclaim]\nenabled = false\ngeneration = \"500ms\"\ncold = \"10s\"\ncompressed = \"20%\"\n";
    let expected = ReclaimConfig {
        is_on: false,
        generation_us: 500_000,
        cold_generations: Some(20),
        compressed_percent: 20,
    };
    assert_eq!(parse(&(with("weight = 1") + all)).unwrap().reclaim, expected);
    let off = with("weight = 1") + "[reclaim]\ncold = \"off\"\n";
    assert_eq!(parse(&off).unwrap().reclaim, ReclaimConfig::default());
}

#[test]
fn mistakes_about_reclaim_say_what_is_allowed() {
    let reclaim = |setting: &str| with("weight = 1") + "[reclaim]\n" + setting + "\n";
    assert_mistake(&reclaim("generation = \"1ms\""), 7, &["\"10ms\" to \"10m\""]);
    assert_mistake(&reclaim("generation = \"often\""), 7, &["`often` is no time"]);
    assert_mistake(&reclaim("cold = \"0s\""), 7, &["\"off\"", "1 to 31 generations"]);
    assert_mistake(&reclaim("cold = \"63s\""), 7, &["2000000 us", "`generation`"]);
    assert_mistake(
        &reclaim("compressed = \"76%\""),
        7,
        &["`76%`", "\"0%\" to \"75%\""],
    );
    assert_mistake(&reclaim("swap = true"), 7, &["swap", "compressed"]);
}
