//! Figures with what they are compared with: as a table for people, as a record for programs.

use serde_json::{Value, json};

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Instructions: ticks of the emulated time-stamp counter.
    Instructions,
    /// Bytes.
    Bytes,
    /// A part of a whole, 1 for all of it.
    Fraction,
    /// Guests.
    Guests,
}

impl Unit {
    const fn name(self) -> &'static str {
        match self {
            Self::Instructions => "instructions",
            Self::Bytes => "bytes",
            Self::Fraction => "fraction",
            Self::Guests => "guests",
        }
    }

    /// A figure as people read it.
    fn shown(self, figure: f64) -> String {
        match self {
            Self::Instructions | Self::Bytes | Self::Guests => format!("{figure:.0}"),
            Self::Fraction => format!("{figure:.4}"),
        }
    }

    /// A figure in the record: counts are whole numbers.
    fn recorded(self, figure: f64) -> Value {
        match self {
            // Below 2^53 each whole number is a double; none of our counts gets there.
            #[allow(clippy::cast_possible_truncation)]
            Self::Instructions | Self::Bytes | Self::Guests => json!(figure.round() as i64),
            Self::Fraction => json!(figure),
        }
    }
}

/// Which of two figures is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// The lower.
    Lower,
    /// The higher.
    Higher,
}

/// One figure that a bench measures.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its frozen name.
    pub name: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// Which direction is good.
    pub better: Better,
    /// What the other needs.
    pub peer: Option<f64>,
    /// What we want to reach.
    pub goal: Option<f64>,
}

impl Row {
    /// A row of instructions with neither a peer nor a goal.
    #[must_use]
    pub const fn instructions(name: &'static str) -> Self {
        Self {
            name,
            unit: Unit::Instructions,
            better: Better::Lower,
            peer: None,
            goal: None,
        }
    }

    /// The same with what the other needs.
    #[must_use]
    pub const fn peer(self, peer: f64) -> Self {
        Self {
            peer: Some(peer),
            ..self
        }
    }

    /// The same with a goal.
    #[must_use]
    pub const fn goal(self, goal: f64) -> Self {
        Self {
            goal: Some(goal),
            ..self
        }
    }

    fn verdict(&self, ours: f64) -> &'static str {
        match (self.goal, self.better) {
            (None, _) => "",
            (Some(goal), Better::Lower) if ours <= goal => "reached",
            (Some(goal), Better::Higher) if ours >= goal => "reached",
            _ => "MISSED",
        }
    }
}

/// A row and what was measured, or why nothing was.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The row.
    pub row: Row,
    /// Our figure.
    pub ours: Result<f64, String>,
}

/// The table for people. `peer` says who is in its column.
#[must_use]
pub fn table(measured: &[Measured], peer: &str) -> String {
    let width = measured
        .iter()
        .map(|one| one.row.name.len())
        .max()
        .unwrap_or_default();
    let mut table = format!("{:width$} {:>12} {peer:>12} {:>12}\n", "", "Pleat", "goal");
    for Measured { row, ours } in measured {
        let shown = |figure: Option<f64>| figure.map_or("-".to_owned(), |figure| row.unit.shown(figure));
        table += &match ours {
            Err(why) => format!("{:width$} not measured: {why}\n", row.name),
            Ok(ours) => {
                format!(
                    "{:width$} {:>12} {:>12} {:>12}  {:12}  {}",
                    row.name,
                    shown(Some(*ours)),
                    shown(row.peer),
                    shown(row.goal),
                    row.unit.name(),
                    row.verdict(*ours)
                )
                .trim_end()
                .to_owned()
                    + "\n"
            }
        };
    }
    table
}

/// The elements for the record.
#[must_use]
pub fn elements(measured: &[Measured]) -> Vec<Value> {
    let element = |Measured { row, ours }: &Measured| {
        let recorded = |figure| row.unit.recorded(figure);
        let mut element = json!({
            "name": row.name,
            "unit": row.unit.name(),
            "ours": ours.as_ref().ok().copied().map(recorded),
            "peer": row.peer.map(recorded),
            "goal": row.goal.map(recorded),
            "better": match row.better {
                Better::Lower => "lower",
                Better::Higher => "higher",
            },
        });
        if let Err(why) = ours {
            element["why"] = json!(why);
        }
        element
    };
    measured.iter().map(element).collect()
}

#[cfg(test)]
mod tests {
    use super::{Better, Measured, Row, Unit, elements, table};

    fn measured() -> [Measured; 3] {
        let slow = Row::instructions("slow").peer(500.0).goal(400.0);
        let fraction = Row {
            name: "fraction",
            unit: Unit::Fraction,
            better: Better::Higher,
            peer: None,
            goal: Some(0.97),
        };
        [
            (slow, Ok(401.0)),
            (slow, Err("was not reported".to_owned())),
            (fraction, Ok(0.975)),
        ]
        .map(|(row, ours)| Measured { row, ours })
    }

    #[test]
    fn the_record_has_a_reason_where_it_has_no_figure() {
        let elements = elements(&measured());
        let whole =
            r#"{"name":"slow","unit":"instructions","ours":401,"peer":500,"goal":400,"better":"lower"}"#;
        assert_eq!(elements[0].to_string(), whole);
        assert!(elements[1]["ours"].is_null());
        assert_eq!(elements[1]["why"], "was not reported");
        assert_eq!(elements[2]["ours"], 0.975);
        assert_eq!(elements[2]["better"], "higher");
        assert!(elements[2]["peer"].is_null());
    }

    #[test]
    fn the_table_says_whether_goals_are_reached() {
        let table = table(&measured(), "others");
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].ends_with("Pleat       others         goal"), "{table}");
        assert!(lines[1].starts_with("slow              401"), "{table}");
        assert!(lines[1].ends_with("instructions  MISSED"), "{table}");
        assert_eq!(lines[2], "slow     not measured: was not reported");
        assert!(
            lines[3].contains("0.9750") && lines[3].ends_with("reached"),
            "{table}"
        );
    }
}
