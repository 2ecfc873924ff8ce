//! What is wrong with a run: Pleat's own verdict, how the emulator ended, and what the scenario expects.

use serde_json::Value;

use crate::guests::{Bound, Expectation, GuestExpectation, Outcome, Scenario};
use crate::session::Ending;
use crate::stream::{GuestTranscript, Transcript};

/// All that is wrong; empty when all is well.
#[must_use]
pub fn failures(scenario: &Scenario, transcript: &Transcript, ending: Ending) -> Vec<String> {
    let expect = scenario.expect.clone().unwrap_or_default();
    let mut failures = ending_failures(scenario, transcript, ending, expect.outcome);
    // Where nothing could run, that the guests said nothing is no news.
    let has_guests = !matches!(expect.outcome, Outcome::CannotRun | Outcome::Crash);
    if transcript.cannot_run().is_none() && has_guests {
        failures.extend(guest_failures(scenario, transcript, &expect, ending));
    }
    failures.extend(text_failures(
        "the host",
        &transcript.host,
        &expect.text,
        &expect.regex,
    ));
    failures.extend(forbidden(transcript, &expect));
    if transcript.statistics.is_some() || failures.is_empty() {
        for (path, bound) in &expect.statistics {
            failures.extend(field_failure(transcript.statistics.as_ref(), path, bound));
        }
    }
    failures
}

fn ending_failures(
    scenario: &Scenario,
    transcript: &Transcript,
    ending: Ending,
    expected: Outcome,
) -> Vec<String> {
    let mut failures = Vec::new();
    match (expected, transcript.crash()) {
        (Outcome::Crash, None) => failures.push("the hypervisor did not crash, and should have".to_owned()),
        (Outcome::Crash, Some(_)) | (_, None) => {}
        (_, Some(crash)) => failures.push(format!("the hypervisor crashed: {crash}")),
    }
    match (expected, transcript.cannot_run()) {
        (Outcome::CannotRun, None) => failures.push("Pleat did not say what this processor lacks".to_owned()),
        (Outcome::Ok | Outcome::Failed | Outcome::Crash, Some(line)) => failures.push(line.to_owned()),
        _ => {}
    }
    match ending {
        Ending::TimedOut => {
            let limit = scenario.machine.wall_seconds;
            failures.push(format!(
                "not finished after {limit} s of wall time ([machine] wall_limit, --limit)"
            ));
        }
        Ending::ByHand | Ending::ByItself => {}
    }
    // Who leaves by hand wants no verdict; a processor that cannot run Pleat gives none.
    let needs_end =
        ending == Ending::ByItself && transcript.cannot_run().is_none() && transcript.crash().is_none();
    match (&transcript.end, expected) {
        (Some(end), Outcome::Ok) if end.outcome != "ok" => {
            failures.push("Pleat reports that the run failed".to_owned());
            failures.extend(end.failures.iter().cloned());
        }
        (Some(end), Outcome::Failed) if end.outcome == "ok" => {
            failures.push("Pleat reports success, and a failure was expected".to_owned());
        }
        (None, _) if needs_end => {
            failures.push("the emulator ended before Pleat had reported an end".to_owned());
        }
        _ => {}
    }
    failures
}

fn guest_failures(
    scenario: &Scenario,
    transcript: &Transcript,
    expect: &Expectation,
    ending: Ending,
) -> Vec<String> {
    let nothing = GuestTranscript::default();
    let mut failures = Vec::new();
    for guest in &scenario.guests {
        let seen = transcript.guests.get(&guest.name).unwrap_or(&nothing);
        let expected = expect.guests.get(&guest.name);
        let expected_state = expected.and_then(|expected| expected.state.as_deref());
        let said = |text: String| format!("{}: {text}", guest.name);
        // A guest that the script or a person killed was meant to be.
        if let Some((state, reason)) = &seen.state
            && (state == "crashed" || (state == "stopped" && reason != "killed"))
            && expected_state.is_none()
        {
            failures.push(said(format!("{state}: {reason}")));
        }
        // A guest that is expected to end in some way may end before it has reported everything.
        if expected_state.is_none() && ending != Ending::ByHand {
            let missing = scenario.until.iter().filter(|event| !has_event(seen, event));
            failures.extend(missing.map(|event| said(format!("never reported `{event}`"))));
        }
        if let Some(expected) = expected {
            failures.extend(one_guest(seen, expected, transcript).into_iter().map(said));
        }
    }
    failures
}

fn one_guest(seen: &GuestTranscript, expected: &GuestExpectation, transcript: &Transcript) -> Vec<String> {
    let mut failures = Vec::new();
    let (state, reason) = match &seen.state {
        Some((state, reason)) => (state.as_str(), reason.as_str()),
        None => ("running", ""),
    };
    if let Some(wanted) = expected.state.as_deref().filter(|wanted| *wanted != state) {
        failures.push(format!("is {state} ({reason}), must be {wanted}"));
    }
    if let Some(wanted) = expected
        .reason
        .as_deref()
        .filter(|wanted| !reason.contains(wanted))
    {
        failures.push(format!("the reason `{reason}` does not contain `{wanted}`"));
    }
    let missing = expected.events.iter().filter(|event| !has_event(seen, event));
    failures.extend(missing.map(|event| format!("never reported `{event}`")));
    failures.extend(text_failures(
        "its console",
        &seen.console,
        &expected.text,
        &expected.regex,
    ));
    for (name, bound) in &expected.measures {
        let objection = match seen.measures.get(name) {
            Some(value) => bound.objection(&Value::from(*value)),
            None => Some("was not measured".to_owned()),
        };
        failures.extend(objection.map(|objection| format!("measure `{name}` {objection}")));
    }
    if transcript.host.is_empty() && failures.is_empty() {
        failures.push("nothing at all was heard from the machine".to_owned());
    }
    failures
}

fn has_event(seen: &GuestTranscript, event: &str) -> bool {
    seen.events.iter().any(|(name, _)| name == event)
}

fn text_failures(who: &str, said: &str, texts: &[String], patterns: &[regex::Regex]) -> Vec<String> {
    let missing = texts.iter().filter(|text| !said.contains(text.as_str()));
    let unmatched = patterns
        .iter()
        .filter(|pattern| !said.lines().any(|line| pattern.is_match(line)));
    let texts = missing.map(|text| format!("{who} never said `{text}`"));
    texts
        .chain(unmatched.map(|pattern| format!("{who} said no line that matches `{pattern}`")))
        .collect()
}

fn forbidden(transcript: &Transcript, expect: &Expectation) -> Vec<String> {
    let guests = transcript
        .guests
        .iter()
        .map(|(name, guest)| (name.as_str(), guest.console.as_str()));
    let mut failures = Vec::new();
    for (who, said) in guests.chain([("the host", transcript.host.as_str())]) {
        for pattern in &expect.forbid {
            let line = said.lines().find(|line| pattern.is_match(line));
            failures.extend(line.map(|line| format!("{who} said `{line}`, which must not be said")));
        }
    }
    failures
}

fn field_failure(record: Option<&Value>, path: &str, bound: &Bound) -> Option<String> {
    let Some(record) = record else {
        return Some(format!("there is no statistics record for `{path}`"));
    };
    let objection = match field(record, path) {
        Some(value) => bound.objection(value),
        // Counters that are zero are left out of the record.
        None if is_counter(record, path) => bound.objection(&Value::from(0)),
        None => return Some(format!("the statistics record has no `{path}`")),
    };
    objection.map(|objection| format!("`{path}` {objection}"))
}

fn is_counter(record: &Value, path: &str) -> bool {
    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    let is_table = parent.ends_with("/faults") || parent.ends_with("/exits");
    is_table && field(record, parent).is_some_and(Value::is_object)
}

/// A field by its path, as in JSON pointers; an element of a list also by its `name`.
fn field<'a>(record: &'a Value, path: &str) -> Option<&'a Value> {
    let mut value = record;
    for part in path.split('/').skip(1) {
        value = match value {
            Value::Array(elements) => match part.parse::<usize>() {
                Ok(index) => elements.get(index)?,
                Err(_) => elements.iter().find(|element| element["name"] == *part)?,
            },
            other => other.get(part)?,
        };
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use pleat_types::stats::MergeStats;
    use serde_json::json;

    use super::{field, field_failure};
    use crate::guests::Bound;

    #[test]
    fn every_field_about_merging_can_be_bounded() {
        let merge = serde_json::to_value(MergeStats {
            shared: 3,
            ..MergeStats::default()
        });
        let record = json!({ "merge": merge.unwrap() });
        let bound = |min| Bound {
            min: Some(min),
            ..Bound::default()
        };
        let names: Vec<&String> = record["merge"].as_object().unwrap().keys().collect();
        for known in [
            "shared",
            "sharing",
            "zero",
            "broken",
            "instructions",
            "collisions",
        ] {
            assert!(names.iter().any(|name| *name == known), "{known}");
        }
        for name in names {
            let (path, value) = (format!("/merge/{name}"), record["merge"][name].as_i64().unwrap());
            assert_eq!(field_failure(Some(&record), &path, &bound(value)), None);
            let failure = field_failure(Some(&record), &path, &bound(value + 1)).unwrap();
            assert!(failure.contains("must be at least"), "{failure}");
        }
    }

    #[test]
    fn fields_are_found_by_index_and_by_name() {
        let record = json!({ "host": { "frames": 7 }, "guests": [ { "name": "a", "zero": 1 }, { "name": "b", "zero": 2 } ] });
        assert_eq!(field(&record, "/host/frames"), Some(&json!(7)));
        assert_eq!(field(&record, "/guests/b/zero"), Some(&json!(2)));
        assert_eq!(field(&record, "/guests/0/zero"), Some(&json!(1)));
        assert_eq!(field(&record, "/guests/c/zero"), None);
    }

    #[test]
    fn bounds_say_what_is_and_what_must_be() {
        let record = json!({ "host": { "frames": 7, "audit": "clean" } });
        let bound = |min, max| Bound {
            min,
            max,
            equals: None,
        };
        assert_eq!(
            field_failure(Some(&record), "/host/frames", &bound(Some(7), Some(7))),
            None
        );
        let failure = field_failure(Some(&record), "/host/frames", &bound(None, Some(6)));
        assert_eq!(failure.as_deref(), Some("`/host/frames` is 7, must be at most 6"));
        let equals = Bound {
            equals: Some(json!("leak")),
            ..Bound::default()
        };
        assert!(field_failure(Some(&record), "/host/audit", &equals).is_some());
        assert!(field_failure(Some(&record), "/host/nothing", &equals).is_some());
        let record = json!({ "guests": [ { "name": "a", "exits": { "hlt": 2 } } ] });
        assert_eq!(
            field_failure(Some(&record), "/guests/a/exits/pause", &bound(None, Some(0))),
            None
        );
        assert!(field_failure(Some(&record), "/guests/b/exits/pause", &bound(None, Some(0))).is_some());
        assert!(field_failure(None, "/host/frames", &bound(None, Some(6))).is_some());
    }
}
