//! The table at the end of a test run.

use super::Report;

/// Prints one line for each test, then failures in full: what has to be read stands at the end.
pub fn print(reports: &[Report]) {
    let width = reports.iter().map(|report| report.name.len()).max().unwrap_or(0);
    println!();
    for report in reports {
        let seconds = report.took.as_secs_f64();
        println!(
            "  {:width$}  {:6}  {seconds:>6.1} s  {}",
            report.name,
            report.verdict(),
            report.about
        );
    }
    for report in reports.iter().filter(|report| !report.details.is_empty()) {
        println!("\n{} FAILED:\n{}", report.name, report.details);
    }
}
