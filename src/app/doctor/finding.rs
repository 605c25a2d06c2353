//! What was found, and how it is shown. Pure.

use serde_json::{Value as Json, json};

use crate::failure::Exit;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// As it should be.
    Ok,
    /// A run works, though not as well as it could.
    Warning,
    /// A run does not start, tells nothing, or tells what is not so.
    Problem,
}

impl Grade {
    /// As reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at; the same word in every version.
    pub check: &'static str,
    /// How bad it is.
    pub grade: Grade,
    /// What is the case, in one line.
    pub text: String,
    /// The command, statement or setting that fixes it.
    pub fix: Option<String>,
    /// How the process ends if this is the worst.
    pub exit: Exit,
}

/// As it should be.
pub fn ok(check: &'static str, text: impl Into<String>) -> Finding {
    Finding { check, grade: Grade::Ok, text: one_line(&text.into()), fix: None, exit: Exit::Done }
}

/// It works, and could be better.
pub fn warning(check: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Finding {
    let fix = Some(one_line(&fix.into()));
    Finding { check, grade: Grade::Warning, text: one_line(&text.into()), fix, exit: Exit::Done }
}

/// It does not work.
pub fn problem(check: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Finding {
    let fix = Some(one_line(&fix.into()));
    Finding { check, grade: Grade::Problem, text: one_line(&text.into()), fix, exit: Exit::Protected }
}

impl Finding {
    /// The same, and the process ends so.
    pub fn ends(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }
}

/// What comes from a server may hold line breaks and control characters.
fn one_line(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// All findings, in the order in which things depend on each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report(pub Vec<Finding>);

impl Report {
    fn count(&self, grade: Grade) -> usize {
        self.0.iter().filter(|finding| finding.grade == grade).count()
    }

    /// How the process ends: by what hides most. A server that is away hides what is wrong on it; one that refuses
    /// hides less.
    pub fn exit(&self) -> Exit {
        let problems = || self.0.iter().filter(|finding| finding.grade == Grade::Problem).map(|finding| finding.exit);
        let order = [Exit::Unreachable, Exit::Refused, Exit::Misconfigured, Exit::Protected, Exit::Failed];
        order.into_iter().find(|exit| problems().any(|found| found == *exit)).unwrap_or(Exit::Done)
    }

    /// A line for each finding, and one below it with the fix.
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

    /// How many of each grade.
    pub fn summary(&self) -> String {
        let of = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
        format!(
            "{}, {}, {} ok",
            of(self.count(Grade::Problem), "problem"),
            of(self.count(Grade::Warning), "warning"),
            self.count(Grade::Ok)
        )
    }

    /// All findings as one object.
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
