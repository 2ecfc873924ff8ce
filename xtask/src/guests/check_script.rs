//! Checks the steps of a script.

use std::ops::RangeInclusive;

use pleat_bundle::config::MAX_AWAITED;
use toml::Spanned;

use super::check::{Checked, at, known_guest, optional};
use super::names::check_name;
use super::{StepSpec, When, raw, values};

/// Microseconds from one time of a repeated command to the next.
const PERIODS: RangeInclusive<u64> = 1_000..=3_600_000_000;

/// Checks all `[[script]]` tables of a run that waits for so many events.
pub fn script(steps: &[Spanned<raw::Step>], guests: &[&str], until: usize) -> Checked<Vec<StepSpec>> {
    let mut checked = Vec::<StepSpec>::new();
    for raw in steps {
        let next = step(raw, guests)?;
        if let When::Event { guest: ours, .. } = &next.when {
            let is_same = |step: &&StepSpec| matches!(&step.when, When::Event { guest, .. } if guest == ours);
            if until + checked.iter().filter(is_same).count() >= MAX_AWAITED {
                let message = format!(
                    "more than {MAX_AWAITED} events of `{ours}` are waited for, with those of `until`"
                );
                return Err((Some(raw.span()), message));
            }
        }
        checked.push(next);
    }
    Ok(checked)
}

/// Checks a `[[script]]` table.
fn step(step: &Spanned<raw::Step>, guests: &[&str]) -> Checked<StepSpec> {
    let raw = step.get_ref();
    let when = match (&raw.at, &raw.on, &raw.every) {
        (Some(time), None, None) => When::Micros(at(time, |text| values::micros(text))?),
        (None, Some(event), None) => at(event, |text| guest_event(text, guests))?,
        (None, None, Some(time)) => {
            let period_us = at(time, |text| period(text))?;
            let from_us = optional(&raw.from, values::micros)?.unwrap_or(period_us);
            When::Every { period_us, from_us }
        }
        _ => {
            let message =
                "a [[script]] step has one of `at = \"1.5s\"`, `on = \"guest:event\"` and `every = \"50ms\"`";
            return Err((Some(step.span()), message.to_owned()));
        }
    };
    if let (Some(from), None) = (&raw.from, &raw.every) {
        let message = "`from` says when a repeated command runs first; it needs `every`";
        return Err((Some(from.span()), message.to_owned()));
    }
    let command = at(&raw.command, |text| match text.trim() {
        "" => Err("the command is empty; the console's `help` lists what there is".to_owned()),
        command => Ok(command.to_owned()),
    })?;
    Ok(StepSpec { when, command })
}

fn period(text: &str) -> Result<u64, String> {
    let micros = values::micros(text)?;
    if PERIODS.contains(&micros) {
        return Ok(micros);
    }
    Err(format!(
        "a command cannot be repeated every {text}; allowed: from \"1ms\" to \"60m\""
    ))
}

fn guest_event(text: &str, guests: &[&str]) -> Result<When, String> {
    let Some((guest, event)) = text.split_once(':') else {
        return Err(format!("`{text}` is no event of a guest; write \"guest:event\""));
    };
    known_guest(guest, guests)?;
    check_name("an event", event)?;
    Ok(When::Event {
        guest: guest.to_owned(),
        event: event.to_owned(),
    })
}
