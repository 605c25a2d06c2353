//! The findings and the report. Pure.

use serde_json::{Value as Json, json};

use crate::failure::Exit;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Everything is right.
    Ok,
    /// A run works, but not as well as it could.
    Warning,
    /// A run does not start, sends no alerts, or sends wrong ones.
    Problem,
}

impl Grade {
    /// The name of the grade in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The name of the check, the same in every version.
    pub check: &'static str,
    /// The severity.
    pub grade: Grade,
    /// The finding in one line.
    pub text: String,
    /// The command, statement or setting that fixes it.
    pub fix: Option<String>,
    /// The exit code of the process if this is the worst finding.
    pub exit: Exit,
}

/// Creates a finding without a problem.
pub fn ok(check: &'static str, text: impl Into<String>) -> Finding {
    Finding { check, grade: Grade::Ok, text: one_line(&text.into()), fix: None, exit: Exit::Done }
}

/// Creates a finding that something works but could be better.
pub fn warning(check: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Finding {
    let fix = Some(one_line(&fix.into()));
    Finding { check, grade: Grade::Warning, text: one_line(&text.into()), fix, exit: Exit::Done }
}

/// Creates a finding that something does not work.
pub fn problem(check: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Finding {
    let fix = Some(one_line(&fix.into()));
    Finding { check, grade: Grade::Problem, text: one_line(&text.into()), fix, exit: Exit::Protected }
}

impl Finding {
    /// Sets the exit code.
    pub fn ends(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }
}

/// Replaces line breaks and control characters, which a server's text may contain.
fn one_line(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// All findings, in the order in which they depend on each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report(pub Vec<Finding>);

impl Report {
    fn count(&self, grade: Grade) -> usize {
        self.0.iter().filter(|finding| finding.grade == grade).count()
    }

    /// The exit code of the finding that hides the most. An unreachable server hides everything that is wrong on it. A
    /// server that refuses hides less.
    pub fn exit(&self) -> Exit {
        let problems = || self.0.iter().filter(|finding| finding.grade == Grade::Problem).map(|finding| finding.exit);
        let order = [Exit::Unreachable, Exit::Refused, Exit::Misconfigured, Exit::Protected, Exit::Failed];
        order.into_iter().find(|exit| problems().any(|found| found == *exit)).unwrap_or(Exit::Done)
    }

    /// Returns a line for each finding, with the fix below it.
    pub fn table(&self) -> Vec<String> {
        let width = self.0.iter().map(|finding| finding.check.len()).max().unwrap_or_default();
        let mut lines = Vec::new();
        for Finding { check, grade, text, fix, .. } in &self.0 {
            lines.push(format!("{:<7}  {check:<width$}  {text}", grade.name()));
            lines.extend(fix.iter().map(|fix| format!("{:<7}  {:<width$}  fix: {fix}", "", "")));
        }
        lines.push(self.summary());
        lines
    }

    /// Returns the number of findings of each grade.
    pub fn summary(&self) -> String {
        let of = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
        format!(
            "{}, {}, {} ok",
            of(self.count(Grade::Problem), "problem"),
            of(self.count(Grade::Warning), "warning"),
            self.count(Grade::Ok)
        )
    }

    /// Returns all findings as one JSON object.
    pub fn json(&self) -> Json {
        let finding = |Finding { check, grade, text, fix, .. }: &Finding| json!({"check": check, "grade": grade.name(), "text": text, "fix": fix});
        json!({
            "findings": self.0.iter().map(finding).collect::<Vec<_>>(),
            "problems": self.count(Grade::Problem),
            "warnings": self.count(Grade::Warning),
            "ok": self.count(Grade::Ok),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_report() {
        let report = Report(vec![
            ok("broker", "it answers"),
            problem("table.identity", "it is\nNOTHING", "ALTER TABLE \"a\".\"b\" REPLICA IDENTITY DEFAULT"),
        ]);
        assert_eq!(
            report.table(),
            [
                "ok       broker          it answers",
                "problem  table.identity  it is NOTHING",
                "                         fix: ALTER TABLE \"a\".\"b\" REPLICA IDENTITY DEFAULT",
                "1 problem, 0 warnings, 1 ok",
            ]
        );
        assert_eq!(report.json()["findings"][1]["grade"], "problem");
        assert_eq!(report.json()["problems"], 1);
    }

    #[test]
    fn the_exit_code_is_that_of_what_hides_most() {
        let check = |findings: Vec<Finding>, want: Exit| assert_eq!(Report(findings).exit(), want);
        check(vec![], Exit::Done);
        check(vec![ok("a", ""), warning("b", "", "")], Exit::Done);
        check(vec![warning("b", "", "").ends(Exit::Unreachable)], Exit::Done);
        check(vec![problem("a", "", "")], Exit::Protected);
        check(vec![problem("a", "", ""), problem("b", "", "").ends(Exit::Misconfigured)], Exit::Misconfigured);
        check(
            vec![problem("a", "", "").ends(Exit::Refused), problem("b", "", "").ends(Exit::Unreachable)],
            Exit::Unreachable,
        );
    }
}
