//! Checks what a guests file expects of its run.

use regex::Regex;
use toml::Spanned;

use super::check::{Checked, at, event_name, known_guest, optional};
use super::expect::{Bound, Expectation, GuestExpectation, Outcome};
use super::names::choose;
use super::raw;

/// Checks an `[expect]` table.
pub fn expect(raw: &raw::Expect, guests: &[&str]) -> Checked<Expectation> {
    let outcomes = [
        ("ok", Outcome::Ok),
        ("failed", Outcome::Failed),
        ("cannot-run", Outcome::CannotRun),
        ("crash", Outcome::Crash),
    ];
    let guest = |(name, raw): (&Spanned<String>, &raw::GuestExpect)| {
        at(name, |name| known_guest(name, guests))?;
        Ok((name.get_ref().clone(), guest_expectation(raw)?))
    };
    let field = |(path, raw): (&Spanned<String>, &raw::Bound)| {
        at(path, |path| match path.starts_with('/') {
            true => Ok(()),
            false => Err(format!(
                "`{path}` is no path into the statistics record; write \"/host/frames_guests\""
            )),
        })?;
        Ok((path.get_ref().clone(), at(path, |_| bound(raw))?))
    };
    Ok(Expectation {
        outcome: optional(&raw.outcome, |word| choose("outcome", word, &outcomes))?.unwrap_or_default(),
        text: raw.text.clone(),
        regex: patterns(&raw.regex)?,
        forbid: patterns(&raw.forbid)?,
        statistics: raw.statistics.iter().map(field).collect::<Checked<_>>()?,
        guests: raw.guest.iter().map(guest).collect::<Checked<_>>()?,
    })
}

fn guest_expectation(raw: &raw::GuestExpect) -> Checked<GuestExpectation> {
    let states = ["unstarted", "running", "halted", "stopped", "crashed"].map(|state| (state, state));
    let measure = |(name, raw): (&String, &raw::Bound)| {
        let bound = bound(raw).map_err(|message| (None, format!("measure `{name}`: {message}")))?;
        Ok((name.clone(), bound))
    };
    Ok(GuestExpectation {
        state: optional(&raw.state, |word| choose("state of a guest", word, &states))?.map(str::to_owned),
        reason: raw.reason.clone(),
        events: raw.events.iter().map(event_name).collect::<Checked<_>>()?,
        text: raw.text.clone(),
        regex: patterns(&raw.regex)?,
        measures: raw.measures.iter().map(measure).collect::<Checked<_>>()?,
    })
}

fn patterns(raw: &[Spanned<String>]) -> Checked<Vec<Regex>> {
    let pattern =
        |text: &String| Regex::new(text).map_err(|error| format!("`{text}` is no pattern: {error}"));
    raw.iter().map(|text| at(text, pattern)).collect()
}

fn bound(raw: &raw::Bound) -> Result<Bound, String> {
    if raw.min.is_none() && raw.max.is_none() && raw.equals.is_none() {
        return Err("a bound needs at least one of `min`, `max` and `equals`".to_owned());
    }
    let equals = raw
        .equals
        .as_ref()
        .map(|value| serde_json::to_value(value).map_err(|error| error.to_string()));
    Ok(Bound {
        min: raw.min,
        max: raw.max,
        equals: equals.transpose()?,
    })
}
