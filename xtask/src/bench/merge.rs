//! `bench merge`: the merging engine on this machine, beside Linux's KSM on the same memory in the same run.
//!
//! The bench is a program of its own; it prints its table and leaves its rows in a file.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::context::Context;
use crate::process;

/// Runs the bench; its output passes through. Returns its rows.
pub fn measure(context: &Context) -> Result<Vec<Value>> {
    let file = context.paths.fresh_run("bench-merge-on-host")?.join("rows.json");
    eprintln!("xtask: building and running the host bench of merging");
    let mut command = process::cargo();
    command
        .current_dir(&context.paths.root)
        .args([
            "bench",
            "--locked",
            "--package",
            "pleat-vmm",
            "--bench",
            "merge",
            "--",
            "--json",
        ])
        .arg(&file);
    process::run_visibly(&mut command)?;
    let text = std::fs::read_to_string(&file).context("the bench has left no rows")?;
    rows(&text).with_context(|| format!("what the bench wrote to {}", file.display()))
}

/// The rows of a record, each of which has what a row must have.
fn rows(text: &str) -> Result<Vec<Value>> {
    const FIELDS: [&str; 6] = ["name", "unit", "ours", "peer", "goal", "better"];
    let record: Value = serde_json::from_str(text).context("is not JSON")?;
    let Some(rows) = record["rows"].as_array() else {
        bail!("has no rows");
    };
    if rows.is_empty() {
        bail!("has no rows");
    }
    for row in rows {
        if let Some(missing) = FIELDS.iter().find(|field| row.get(**field).is_none()) {
            bail!("has a row without `{missing}`: {row}");
        }
        if row["ours"].is_null() && !row["why"].is_string() {
            bail!("has a row with neither `ours` nor `why`: {row}");
        }
    }
    Ok(rows.clone())
}

#[cfg(test)]
mod tests {
    use super::rows;

    #[test]
    fn rows_are_taken_when_they_are_whole() {
        let row = r#"{"name":"a","unit":"ratio","ours":7.5,"peer":1,"goal":6,"better":"higher"}"#;
        let whole = format!(r#"{{"schema":1,"bench":"merge","rows":[{row}]}}"#);
        assert_eq!(rows(&whole).unwrap()[0]["ours"], 7.5);
        let mistake = |text: &str| rows(text).unwrap_err().to_string();
        assert!(mistake("{").contains("JSON"));
        assert!(mistake("{}").contains("no rows"));
        assert!(mistake(r#"{"rows":[]}"#).contains("no rows"));
        assert!(mistake(&whole.replace(r#""unit":"ratio","#, "")).contains("`unit`"));
        let silent = whole.replace("7.5", "null");
        assert!(mistake(&silent).contains("`why`"));
        assert!(rows(&silent.replace("\"goal\"", "\"why\":\"no KSM\",\"goal\"")).is_ok());
    }
}
